"""Autoregressive decoding on a KV cache that the caller owns: prefill, decode_step, and one loop for all decoders.

A `Decoder` reads tokens into its cache and returns the next ones; `decode` is the loop over it, `generate` collects a batch.
The Thinker's tokens are ids (`TextDecoder`), the Talker's are frames (tts/speaker.py), and a compiled step returns several
tokens a call: the loop is the same. It never syncs with the device; the caller does when it reads a token.

Prompts of different lengths are padded on the left; padding is masked and takes no position, so each row equals its single run.

Shapes: B rows, T tokens, D width, V vocabulary, n tokens per call of a decoder; a token is () or (K).
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from muomni.inference.decoding.sampling import INVALID_TOKEN, Sampler
from muomni.inference.decoding.timings import Timings
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import EOS, PAD

SYNC_EVERY = 8  # on a GPU, steps between two checks whether all rows have ended: each check syncs with the device


class Decoder(Protocol):
    """Generates tokens one call at a time."""

    @property
    def cache(self) -> KVCache:
        """The cache that it fills; it never holds the last token returned."""
        ...

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens (B, ...) -> the next ones (B, n, ...), 1 <= n <= `cache.remaining`; all but the last of them are in the
        cache."""
        ...

    def ended(self, tokens: Tensor) -> Tensor:
        """tokens (B, ...) -> (B) bool: True for tokens that end a row."""
        ...


class TextDecoder:
    """A language model's decoder: `step` maps ids (B) to logits (B, V), a sampler picks the next ids; an answer ends at EOS, or
    where logits are not finite (`sampling.INVALID_TOKEN`)."""

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
    """ids (B) -> (B) bool: True for ids that end an answer."""
    return (tokens == EOS) | (tokens == INVALID_TOKEN)


def left_pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Rows of ids (T_i) -> ids (B, T) left-padded with PAD, and the padding lengths (B); None if all rows are equally long."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), PAD, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = row
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
    """Append ids (B, T) to the cache -> logits (B, V) of the next token.

    embeddings: (B, T, D) of a prompt with media, whose slots hold the projected features; None: those of the ids.
    padding: (B), left padding of each row; needs an empty cache. chunk: tokens per forward, None for all at once; the result is
    the same.
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
        window = slice(begin, min(begin + step, T))
        x = thinker.embedding(ids[:, window]) if embeddings is None else embeddings[:, window]
        media_ids = None if embeddings is None else ids[:, window]
        hidden = thinker.forward_hidden(x, ids=media_ids, positions=positions[..., window], cache=cache).hidden
    assert hidden is not None, "an empty prompt"
    logits: Tensor = thinker.head(hidden[:, -1])
    return logits


def decode_step(
    thinker: Thinker, ids: Tensor, cache: KVCache, *, padding: Tensor | None = None, timings: Timings | None = None
) -> Tensor:
    """Append one token per row, ids (B) -> logits (B, V) of the next one. timings: where the head's time is added."""
    positions = torch.full((1,), cache.position, device=ids.device)
    if padding is not None:
        positions = positions - padding[:, None]
    hidden = thinker.forward_hidden(thinker.embedding(ids[:, None]), positions=positions, cache=cache).hidden
    with nullcontext() if timings is None else timings.span("head"):
        logits: Tensor = thinker.head(hidden)[:, -1]
    return logits


@torch.inference_mode()
def decode(decoder: Decoder, tokens: Tensor, *, max_tokens: int | None) -> Generator[Tensor]:
    """Yield the first tokens (B, ...), sampled after a prefill, then step by step the following ones, (B, ...) each.

    Ends after `max_tokens` tokens or when the cache is full; tokens of a row after its end are meaningless. The caller may stop
    iterating at any token: the cache then holds what precedes it.
    """
    cache = decoder.cache
    start, count = cache.position, 0
    block = tokens[:, None]
    try:
        while True:
            for index in range(block.shape[1]):
                count += 1
                yield block[:, index]
                if count == max_tokens:
                    return
            if cache.remaining == 0:
                return
            block = decoder(block[:, -1])
    finally:
        if count:
            cache.roll_back(start + count - 1)


@dataclass(slots=True)
class Generated:
    """A batch: tokens (B, T, ...); lengths (B), each row's last token included; ended (B) bool, True if a row ended by that
    token, False if by a limit or a stop string."""

    tokens: Tensor
    lengths: Tensor
    ended: Tensor

    def rows(self) -> list[Tensor]:
        """The tokens (T_i, ...) of each row, the end token included."""
        return [row[:length] for row, length in zip(self.tokens, self.lengths.tolist(), strict=True)]

    @property
    def has_invalid(self) -> bool:
        """True if the logits of any row were not finite. Syncs with the device."""
        return any(INVALID_TOKEN in row.tolist() for row in self.rows())

    def answers(self) -> list[list[int]]:
        """Ids of each row, the end token excluded."""
        lengths = (self.lengths - self.ended.long()).tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]


class Stops(Protocol):
    """Ends rows of a batch at something other than an end token."""

    def __call__(self, steps: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """All tokens so far, (B, ...) each, and lengths (B), 0 for unfinished rows -> updated lengths."""
        ...


@torch.inference_mode()
def generate(decoder: Decoder, tokens: Tensor, *, limits: Tensor, stops: Stops | None = None) -> Generated:
    """`decode`, collected until every row has ended. limits: (B), maximum tokens of each row, at least 1. stops: called at each
    check whether all rows have ended."""
    sync_every = SYNC_EVERY if tokens.device.type == "cuda" else 1
    steps: list[Tensor] = []
    lengths = torch.zeros_like(limits)  # 0 for unfinished rows
    ended = torch.zeros_like(limits, dtype=torch.bool)
    for chosen in decode(decoder, tokens, max_tokens=int(limits.max())):
        steps.append(chosen)
        active = lengths == 0
        ends = active & decoder.ended(chosen)
        ended = ended | ends
        lengths = torch.where(ends | (active & (limits <= len(steps))), len(steps), lengths)
        if len(steps) % sync_every == 0:
            lengths = lengths if stops is None else stops(steps, lengths)
            if bool((lengths > 0).all()):
                break
    return Generated(torch.stack(steps, dim=1), torch.where(lengths == 0, len(steps), lengths), ended)
