"""Autoregressive decoding on a KV cache that the caller owns: prefill, decode_step, and one loop for whatever decodes.

A `Decoder` reads tokens into its cache and chooses what follows; `decode` is the loop over it, `generate` collects a
batch. The Thinker's tokens are ids (`TextDecoder`), the Talker's are frames (inference/speech.py), and a compiled step may
choose several at a call: the loop is the same. Nothing in it waits for the device; whoever needs a token reads it.

Ragged prompts are padded on the left; padding is masked and takes no position, so each row equals its single run.

Shapes: B rows, T tokens, D width, V vocabulary, n tokens that a decoder chooses at a call; a token is () or (K).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from muomni.inference.decoding.sampling import BROKEN, Sampler
from muomni.inference.decoding.timings import Timings
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import EOS, PAD

LOOKS_ON_GPU = 8  # steps between two looks at whether all rows of a batch have ended: each look waits for the device


class Decoder(Protocol):
    """What chooses tokens one after the other."""

    @property
    def cache(self) -> KVCache:
        """Where it reads to. The tokens chosen last are never in it."""
        ...

    def __call__(self, tokens: Tensor) -> Tensor:
        """Read tokens (B, ...) and, of those it chooses, all but the last: (B, n, ...), 1 <= n <= `cache.remaining`."""
        ...

    def ended(self, tokens: Tensor) -> Tensor:
        """(B) bool: whether a row's answer ends with this token, tokens (B, ...)."""
        ...


class TextDecoder:
    """A language model's decoder: `step` reads ids (B) and gives logits (B, V), a sampler chooses; an answer ends at EOS, or
    where the model's numbers are not finite (`sampling.BROKEN`)."""

    def __init__(self, step: Callable[[Tensor], Tensor], cache: KVCache, *, sampler: Sampler, timings: Timings) -> None:
        self.step, self.cache, self.sampler, self.timings = step, cache, sampler, timings

    def __call__(self, tokens: Tensor) -> Tensor:
        """ids (B) -> the next ones (B, 1)."""
        with self.timings.span("model"):
            logits = self.step(tokens)
        with self.timings.span("sampling"):
            return self.sampler(logits)[:, None]

    def ended(self, tokens: Tensor) -> Tensor:
        """ids (B) -> (B) bool."""
        return ends_text(tokens)


def ends_text(tokens: Tensor) -> Tensor:
    """ids (B) -> (B) bool: whether a text ends with them."""
    return (tokens == EOS) | (tokens == BROKEN)


def left_pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Rows of ids (T_i) -> ids (B, T) padded by PAD on the left, and padding (B): how many of each are padding; None where
    the rows are equally long."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), PAD, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, longest - len(row) :] = row
    padding = torch.tensor([longest - len(row) for row in rows])
    return ids, padding if padding.any() else None


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
    if padding is not None:
        assert start == 0, "left padding needs an empty cache"
        cache.mask_padding(positions >= padding[:, None])
        positions = (positions - padding[:, None]).clamp_min(0)
    step = chunk or T
    hidden = None
    for begin in range(0, T, step):
        part = slice(begin, min(begin + step, T))
        x = thinker.embedding(ids[:, part]) if embeddings is None else embeddings[:, part]
        seen_as = None if embeddings is None else ids[:, part]
        hidden = thinker.forward_hidden(x, ids=seen_as, positions=positions[..., part], cache=cache)
    assert hidden is not None, "an empty prompt"
    logits: Tensor = thinker.head(hidden[:, -1])
    return logits


def decode_step(thinker: Thinker, ids: Tensor, cache: KVCache, *, padding: Tensor | None = None) -> Tensor:
    """Read one more token a row, ids (B) -> logits (B, V) of what follows."""
    positions = torch.full((1,), cache.position, device=ids.device)
    if padding is not None:
        positions = positions - padding[:, None]
    logits: Tensor = thinker(ids[:, None], positions=positions, cache=cache, last_only=True).logits[:, -1]
    return logits


@torch.inference_mode()
def decode(decoder: Decoder, tokens: Tensor, *, most: int | None) -> Generator[Tensor]:
    """tokens (B, ...), chosen after a prefill: yields them, then step by step those that follow, (B, ...) each.

    Ends after `most` tokens, or when the cache is full; a row that has ended goes on, and means nothing any more. Stop
    iterating at any token: the cache then holds what stands before it.
    """
    cache = decoder.cache
    start, count = cache.position, 0
    block = tokens[:, None]
    try:
        while True:
            for place in range(block.shape[1]):
                count += 1
                yield block[:, place]
                if count == most:
                    return
            if cache.remaining == 0:
                return
            block = decoder(block[:, -1])
    finally:
        if count:
            cache.roll_back(start + count - 1)


@dataclass(slots=True)
class Generated:
    """A batch: tokens (B, T, ...); lengths (B), up to and with each row's last token; ended (B), whether that token ended
    it, or a limit did."""

    tokens: Tensor
    lengths: Tensor
    ended: Tensor

    def rows(self) -> list[Tensor]:
        """The tokens (T_i, ...) of each row, with the one that ended it."""
        return [row[:length] for row, length in zip(self.tokens, self.lengths.tolist(), strict=True)]

    @property
    def broken(self) -> bool:
        """Whether the model's numbers were not finite in any row. Waits for the device."""
        return any(BROKEN in row.tolist() for row in self.rows())

    def answers(self) -> list[list[int]]:
        """Ids of each row, without the end token."""
        lengths = (self.lengths - self.ended.long()).tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]


class Stops(Protocol):
    """Ends rows of a batch for other reasons than their last token."""

    def __call__(self, steps: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """All tokens so far, (B, ...) each, and lengths (B), 0 for rows that go on -> the lengths, with those that end now."""
        ...


@torch.inference_mode()
def generate(decoder: Decoder, tokens: Tensor, *, limits: Tensor, stops: Stops | None = None) -> Generated:
    """`decode`, collected until every row has ended. limits: (B), most tokens of each row, at least 1. stops: is asked as often
    as the rows are looked at."""
    looks = LOOKS_ON_GPU if tokens.device.type == "cuda" else 1
    steps: list[Tensor] = []
    lengths = torch.zeros_like(limits)  # 0 while a row goes on
    ended = torch.zeros_like(limits, dtype=torch.bool)
    for chosen in decode(decoder, tokens, most=int(limits.max())):
        steps.append(chosen)
        going = lengths == 0
        ends = going & decoder.ended(chosen)
        ended = ended | ends
        lengths = torch.where(ends | (going & (limits <= len(steps))), len(steps), lengths)
        if len(steps) % looks == 0:
            lengths = lengths if stops is None else stops(steps, lengths)
            if bool((lengths > 0).all()):
                break
    return Generated(torch.stack(steps, dim=1), torch.where(lengths == 0, len(steps), lengths), ended)
