"""Codebooks one step after another: at each step the Talker predicts the first code of a frame, the second of the frame before,
and so on (MusicGen: Copet et al. 2023, arXiv:2306.05284). So each code follows from those before it in its frame, as in depth.py,
by the transformer itself and without a further network; what is spoken comes K - 1 steps later.

Step s reads code k of frame s - 1 - k and predicts code k of frame s - k. Whoever decodes frame by frame gets complete frames;
the codes of the next ones that are known already, the most likely ones, are kept with the cache.

Legend: B batch, T frames, S steps, D width, K codebooks, E entries, L = K - 1 steps of lag.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from muomni.models.outputs import TalkerOutput
from muomni.nn.context import AttentionContext

if TYPE_CHECKING:
    from muomni.models.talker import Talker
    from muomni.models.talker_cache import TalkerCache


@dataclass(slots=True)
class PendingFrames:
    """The L frames after the last complete one: codes (B, L, K) and logits (B, L, K, E), of which frame i has its first L - i,
    and stop (B, L)."""

    codes: Tensor
    logits: Tensor
    stop: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All of it, rows first."""
        return self.codes, self.logits, self.stop

    def rows(self, count: int) -> "PendingFrames":
        """The first rows."""
        return PendingFrames(*(each[:count] for each in self.tensors()))


def delayed_inputs(embedded: Tensor, *, steps: int) -> Tensor:
    """Embedded codes (B, T, K, D) -> what steps read of them, (B, S, D): zeros where there is no frame."""
    B, T, K, D = embedded.shape
    inputs = embedded.new_zeros(B, steps, D)
    for k in range(K):
        count = min(T, steps - 1 - k)
        if count > 0:
            inputs[:, 1 + k : 1 + k + count] += embedded[:, :count, k]
    return inputs


def by_frame(logits: Tensor) -> Tensor:
    """Logits (B, S, K, E) of steps -> those of frames (B, S - L, K, E)."""
    _, S, K, _ = logits.shape
    frames = S - K + 1
    return torch.stack([logits[:, k : k + frames, k] for k in range(K)], dim=2)


def delayed_prefill(
    talker: "Talker", prefix: Tensor, positions: Tensor, *, cache: "TalkerCache", codes: Tensor | None
) -> TalkerOutput:
    """Read the prefix (B, C, D) at positions (B, C) and known frames, codes (B, T, K), into an empty cache that has its text ->
    logits (B, 1, K, E) of frame T."""
    B, C, _ = prefix.shape
    L, T = talker.lag, 0 if codes is None else codes.shape[1]
    known = prefix.new_zeros(B, L + 1, talker.num_codebooks, dtype=torch.long)  # frames before the first: not read
    if codes is not None:
        known = torch.cat([known, codes], dim=1)
        inputs = delayed_inputs(talker.embed_each(codes), steps=T)
        inputs[:, 0] += talker.start[:, 0]
        prefix = torch.cat([prefix, inputs + cache.text[:, :T, : talker.dim]], dim=1)
        positions = torch.cat([positions, torch.arange(T, device=positions.device).expand(B, -1)], dim=1)
    if C + T:
        talker.transformer(prefix, AttentionContext(talker.rope(positions), cache=cache))
    empty = prefix.new_zeros(B, L, talker.num_codebooks, talker.codebook_size)
    cache.pending = PendingFrames(known[:, T + 1 :], empty, empty[:, :, 0, 0])
    for step in range(T, T + L + 1):
        last = known[:, step : step + 1]  # frame step - L - 1
        x = talker.start.expand(B, 1, -1) if step == 0 else _read(talker, last, cache.pending, frames=step)
        position, told = torch.full((1,), float(step), device=x.device), cache.text[:, step : step + 1]
        out = _step(talker, x, position, told, cache, forced=T - (step - L))
    return out


def delayed_step(talker: "Talker", codes: Tensor, *, frame: int | Tensor, cache: "TalkerCache") -> TalkerOutput:
    """`Talker.decode_step`."""
    assert cache.pending is not None, "the cache holds no text"
    x = _read(talker, codes, cache.pending)
    if isinstance(frame, int):
        step = frame + talker.lag
        return _step(talker, x, torch.full((1,), float(step), device=x.device), cache.text[:, step : step + 1], cache)
    steps = frame + talker.lag
    told = cache.text[torch.arange(len(steps), device=steps.device), steps][:, None]
    return _step(talker, x, steps[:, None], told, cache)


def _read(talker: "Talker", last: Tensor, pending: PendingFrames, *, frames: int | None = None) -> Tensor:
    """Codes (B, 1, K) of the last complete frame, and of the pending ones -> what the next step reads of them (B, 1, D). frames:
    how many there are up to the last pending one; None: enough."""
    L = talker.lag
    embedded = talker.embed_each(torch.cat([last, pending.codes], dim=1))
    parts = [embedded[:, L - k, k] for k in range(L + 1) if frames is None or k < frames]
    return torch.stack(parts).sum(0)[:, None]


def _step(
    talker: "Talker", x: Tensor, position: Tensor, told: Tensor, cache: "TalkerCache", *, forced: int = 0
) -> TalkerOutput:
    """One step -> the frame that it completes. forced: frames from that one on whose codes are known."""
    hidden = talker.transformer(
        x + told[..., : talker.dim], AttentionContext(talker.rope(position), cache=cache)
    ).hidden
    new = talker.code_logits(hidden)
    now = told[..., -1] if talker.stop is None else talker.stop(hidden)[..., 0]
    pending = cache.pending
    assert pending is not None
    logits = torch.cat([pending.logits, torch.zeros_like(new)], dim=1)
    codes = torch.cat([pending.codes, torch.zeros_like(pending.codes[:, :1])], dim=1)
    stop = torch.cat([pending.stop, now], dim=1)
    for row, k in enumerate(reversed(range(talker.lag + 1))):
        logits[:, row, k] = new[:, 0, k]
        if row >= forced:
            codes[:, row, k] = new[:, 0, k].argmax(-1)
    cache.pending = PendingFrames(codes[:, 1:], logits[:, 1:], stop[:, 1:])
    return TalkerOutput(logits=logits[:, :1], stop=stop[:, :1])
