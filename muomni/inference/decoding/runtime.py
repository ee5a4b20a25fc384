"""How the Thinker is executed: the interface between generation and the ways to compute a step (eager, compiled).

Conversations and batches take caches, prefills and decoders from a `Runtime`, and know nothing else of how it computes.

Shapes: B rows, T tokens, D width, V vocabulary.
"""

import functools
from typing import Protocol

from torch import Tensor

from muomni.inference.decoding.generate import Decoder, TextDecoder, decode_step, prefill
from muomni.inference.decoding.row_blocks import begin_with, with_row_blocks
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
        """As `generate.prefill`: ids (B, T), embeddings (B, T, D) -> logits (B, V) of the next token."""
        ...

    def decoder(self, cache: KVCache, *, sampler: Sampler, padding: Tensor | None, timings: Timings) -> Decoder:
        """A decoder that continues from a filled cache; the sampler has already picked the first token."""
        ...


class Eager:
    """No compilation: the model's own modules, of one row's steps the operators for its blocks (`with_row_blocks`)."""

    def __init__(self, thinker: Thinker) -> None:
        self.thinker, self.one_row = thinker, with_row_blocks(thinker)

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """A cache in the dtype of the weights."""
        return self.thinker.new_cache(batch_size, capacity)

    def prefill(self, ids: Tensor, cache: KVCache, *, embeddings: Tensor, padding: Tensor | None) -> Tensor:
        """See `Runtime.prefill`."""
        thinker = begin_with(self.one_row)
        cache.by_operator = thinker is self.one_row
        return prefill(thinker, ids, cache, embeddings=embeddings, padding=padding)

    def decoder(self, cache: KVCache, *, sampler: Sampler, padding: Tensor | None, timings: Timings) -> Decoder:
        """A decoder of one forward per token, computed as the prefill was."""
        thinker = self.one_row if cache.by_operator else self.thinker
        step = functools.partial(decode_step, thinker, cache=cache, padding=padding, timings=timings)
        return TextDecoder(step, cache, sampler=sampler, timings=timings)
