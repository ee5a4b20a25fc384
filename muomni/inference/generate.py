"""Autoregressive decoding on a KV cache that the caller owns: prefill, decode_step, and the loop over both.

Ragged prompts are padded on the left; padding is masked and takes no position, so each row equals its single run.

Shapes: B rows, T tokens, D width, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from muomni.inference.sampling import Sampler
from muomni.inference.stats import Timings
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import EOS, PAD


def left_pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of ids (T_i) -> ids (B, T) padded by PAD on the left, and padding (B): how many of each are padding."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), PAD, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, longest - len(row) :] = row
    padding = torch.tensor([longest - len(row) for row in rows])
    return ids, padding


def prefill(
    thinker: Thinker,
    ids: Tensor,
    cache: KVCache,
    *,
    embeddings: Tensor | None = None,
    padding: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Read ids (B, T) behind what the cache holds -> logits (B, V) of what follows.

    embeddings: (B, T, D) of a prompt with media, in whose slots the projected features stand; None: the ids' own.
    padding: (B) tokens of left padding of each row (only into an empty cache). chunk: read so many tokens at a time, None
    for all at once; the result is the same.
    """
    T = ids.shape[1]
    start = cache.position
    positions = torch.arange(start, start + T, device=ids.device)
    if padding is not None and bool(padding.any()):
        assert start == 0, "left padding needs an empty cache"
        cache.mask_padding(positions >= padding[:, None])
        positions = (positions - padding[:, None]).clamp_min(0)
    step = chunk or T
    logits = None
    for begin in range(0, T, step):
        part = slice(begin, min(begin + step, T))
        out = thinker(
            ids[:, part],
            embeddings=None if embeddings is None else embeddings[:, part],
            positions=positions[..., part],
            cache=cache,
            last_only=True,
        )
        logits = out.logits[:, -1]
    assert logits is not None, "an empty prompt"
    return logits


def decode_step(thinker: Thinker, ids: Tensor, cache: KVCache, *, padding: Tensor | None = None) -> Tensor:
    """Read one more token a row, ids (B) -> logits (B, V) of what follows."""
    positions = torch.tensor([cache.position], device=ids.device)
    if padding is not None:
        positions = positions - padding[:, None]
    logits: Tensor = thinker(ids[:, None], positions=positions, cache=cache, last_only=True).logits[:, -1]
    return logits


@torch.inference_mode()
def decode(
    thinker: Thinker,
    logits: Tensor,
    cache: KVCache,
    *,
    sampler: Sampler,
    max_new_tokens: int | None,
    padding: Tensor | None = None,
    timings: Timings,
) -> Iterator[Tensor]:
    """After `prefill`: yields ids (B) token by token; a row that has ended gives EOS.

    Ends when every row has, after `max_new_tokens`, or when the cache is full. The last ids are never in it.
    """
    done = torch.zeros(logits.shape[0], dtype=torch.bool, device=logits.device)
    count = 0
    while True:
        with timings.span("sampling"):
            ids = torch.where(done, EOS, sampler(logits))
            done = done | (ids == EOS)
            finished = bool(done.all())
        count += 1
        timings.new_tokens += int((~done).sum())
        yield ids
        if finished or count == max_new_tokens or cache.remaining == 0:
            return
        with timings.span("model"):
            logits = decode_step(thinker, ids, cache, padding=padding)


def generate(
    thinker: Thinker,
    logits: Tensor,
    cache: KVCache,
    *,
    sampler: Sampler,
    max_new_tokens: int | None,
    padding: Tensor | None = None,
    timings: Timings,
) -> list[list[int]]:
    """`decode`, collected: the ids of each row, without EOS."""
    steps = list(
        decode(
            thinker,
            logits,
            cache,
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            padding=padding,
            timings=timings,
        )
    )
    rows = torch.stack(steps, dim=1).tolist()
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]
