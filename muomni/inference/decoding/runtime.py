"""How the Thinker is run: the seam between generation and the ways to compute a step.

Conversations and batches ask a `Runtime` for caches, prefills and decoders, and know nothing else of how it computes.

Shapes: B rows, T tokens, D width, V vocabulary.
"""

import functools
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from muomni.inference.decoding.generate import Decoder, TextDecoder, decode_step, prefill
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache


class Runtime(Protocol):
    """Caches, prefills and decoders of one Thinker."""

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """An empty cache of at least `capacity` tokens, for `prefill` and `decoder` of this runtime."""
        ...

    def prefill(self, ids: Tensor, cache: KVCache, *, embeddings: Tensor, padding: Tensor | None) -> Tensor:
        """As `generate.prefill`: ids (B, T), embeddings (B, T, D) -> logits (B, V) of what follows."""
        ...

    def decoder(self, cache: KVCache, *, sampler: Sampler, padding: Tensor | None, timings: Timings) -> Decoder:
        """What goes on from a filled cache; the sampler chose the first token already."""
        ...

    def watch(self, timings: Timings) -> AbstractContextManager[None]:
        """Time the output head while the context is open, where it is a call of its own."""
        ...


class Eager:
    """The model's own modules, operation by operation: exact, no waiting before the first token."""

    def __init__(self, thinker: Thinker) -> None:
        self.thinker = thinker

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """In the dtype of the weights."""
        return self.thinker.new_cache(batch_size, capacity)

    def prefill(self, ids: Tensor, cache: KVCache, *, embeddings: Tensor, padding: Tensor | None) -> Tensor:
        """ids (B, T), embeddings (B, T, D) -> logits (B, V)."""
        return prefill(self.thinker, ids, cache, embeddings=embeddings, padding=padding)

    def decoder(self, cache: KVCache, *, sampler: Sampler, padding: Tensor | None, timings: Timings) -> Decoder:
        """One forward a token."""
        step = functools.partial(decode_step, self.thinker, cache=cache, padding=padding)
        return TextDecoder(step, cache, sampler=sampler, timings=timings)

    def watch(self, timings: Timings) -> AbstractContextManager[None]:
        """By hooks."""
        return timings.watch_head(self.thinker.head)
