"""Near ties: where rounding could decide a token, the request is computed once more, alone.

The number of rows of a step, compilation, prefills in chunks and reused prefixes change the order in which float32 sums are added
up: logits differ from those of the request's single run by some 1e-6 of the largest one. That decides a token where two are that
close, once in some 100,000 tokens. So a choice within `near_ties.MARGIN` is made by the engine's own computation, from the first
token of the prompt on: a request's tokens are those of its single run, at the price of a run of its own once in some 10,000
tokens. The engine knows no constraints: under one the single run is that of a scheduler with nothing else to do, whose eager
steps `logits_alone` repeats.

Shapes: T tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.inference.decoding.generate import decode, decode_step, prefill
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.runtime import Runtime
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache


def replay(
    thinker: Thinker,
    runtime: Runtime,
    ids: Tensor,
    embeddings: Tensor | None,
    options: GenerationOptions,
    tokens: Sequence[int],
) -> tuple[int | None, KVCache]:
    """The next token of an answer to the prompt ids (T) as the engine computes it alone, and its cache of prompt and tokens.

    tokens: the answer so far. None if the engine's are other ones: then rounding decided one of them after all.
    """
    device = thinker.embedding.weight.device
    ids = ids[None].to(device)
    cache = runtime.new_cache(1, thinker.max_length)
    sampler = Sampler(options, device=device)
    sampler.note(ids, thinker.vocab_size)
    vectors = thinker.embedding(ids) if embeddings is None else embeddings
    first = sampler(runtime.prefill(ids, cache, embeddings=vectors, padding=None))
    decoder = runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
    steps = torch.cat(list(decode(decoder, first, max_tokens=len(tokens) + 1))).tolist()
    return (steps[-1] if steps[:-1] == list(tokens) else None), cache


def logits_alone(
    thinker: Thinker, ids: Tensor, embeddings: Tensor | None, tokens: Sequence[int]
) -> tuple[Tensor, KVCache]:
    """The logits (1, V) after a prompt ids (T) and the answer so far, step by step, and the cache that they were computed in."""
    device = thinker.embedding.weight.device
    cache = thinker.new_cache(1, thinker.max_length)
    logits = prefill(thinker, ids[None].to(device), cache, embeddings=embeddings)
    for token in tokens:
        logits = decode_step(thinker, torch.tensor([token], device=device), cache)
    return logits, cache
