"""`Hearing` (frontends/hearing.py, voice_activity.py) as a graph: spans of speech are found by tensor operations alone, so that a
recording is prepared in any runtime as it is in training.

A loop over runs of frames becomes cumulative sums: a run begins a new group where no loud frame is within the pause before it,
a frame is kept where one of a kept group is within the margin around it. The frames that are kept move to the front.

All rows are of one length. What a row is scaled by does not change its result, but for recordings below -110 dB: sherpa-onnx,
which scales waveforms to variance 1, computes the same.

Legend: B batch, N samples, T frames, M mel bins, G bands, K blocks that share a background, L frames of the longest block.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.frontends.hearing import JUDGED, LOUD, TALK, HearingSpec
from muomni.frontends.mel import MelSpec, normalise_log
from muomni.frontends.voice_activity import (
    BANDS,
    BLOCK,
    DYNAMIC,
    LOWEST_HERTZ,
    NOISE,
    NOTHING,
    QUANTILE,
    SHORTEST,
    SMOOTH,
)  # fmt: skip
from muomni.interop.onnx.mel import Magnitudes

FAR = 1e9  # sorts after every value


class HearingGraph(nn.Module):
    """Waveform (B, N) -> mel (B, T, M), whose first `lengths` (B) frames are those of the speech in it, or all."""

    spoken: Tensor
    voiced: Tensor

    def __init__(self, mel: MelSpec, spec: HearingSpec) -> None:
        super().__init__()
        self.mel, self.spec, self.rate = mel, spec, mel.frame_rate
        self.magnitudes = Magnitudes(mel)
        filters = self.magnitudes.filters
        centres = torch.linspace(0, mel.sample_rate / 2, len(filters))[filters.argmax(0)]
        spoken = (centres >= LOWEST_HERTZ).nonzero()[:, 0]
        self.width = max(1, len(spoken) // BANDS)  # bins of a band
        self.register_buffer("spoken", spoken[: len(spoken) // self.width * self.width])
        self.register_buffer("voiced", ((centres >= LOWEST_HERTZ) & (centres <= TALK)).nonzero()[:, 0])

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        magnitudes = self.magnitudes(waveform - waveform.mean(dim=1, keepdim=True))
        score = self.salience(magnitudes)
        kept, found = self.speech(score)
        level = self.level(magnitudes, (score >= self.spec.edge) & found)
        gain = torch.where(level < NOTHING, torch.zeros_like(level), (self.spec.level - level) / 20)
        magnitudes = magnitudes * torch.pow(10.0, gain)[..., None]
        mel = normalise_log(magnitudes, self.mel.floor) if self.mel.log else magnitudes
        return _to_front(mel, kept), kept.sum(dim=1)

    def salience(self, magnitudes: Tensor) -> Tensor:
        """`speech_salience` of magnitudes (B, T, M): (B, T) in decibels above the background."""
        power = magnitudes[..., self.spoken].square().unflatten(2, (-1, self.width)).mean(-1)  # B T G
        width = 2 * (round(SMOOTH * self.rate) // 2) + 1
        smooth = F.avg_pool1d(power.mT, width, 1, width // 2, count_include_pad=False).mT
        level = 10 * (smooth + 1e-20).log10()
        peak = level.amax(dim=(1, 2))[:, None]
        level = torch.maximum(level, (peak - DYNAMIC)[..., None])
        alive = (level > (peak - DYNAMIC)[..., None]).any(-1)
        background, none = self.background(level, alive)
        score = (level - background - NOISE).clamp_min(0).mean(-1)
        return torch.where(none | (peak < NOTHING), torch.zeros_like(score), score)

    def background(self, level: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """level (B, T, G) of the frames `alive` (B, T) -> the low quantile of the block of each frame (B, T, G), and whether the
        block has no such frame (B, T)."""
        T, longest = level.shape[1], round(BLOCK * self.rate)
        blocks = (T + longest - 1) // longest
        starts = torch.arange(blocks, device=level.device) * T // blocks  # K
        ends = (torch.arange(blocks, device=level.device) + 1) * T // blocks
        frames = starts[:, None] + torch.arange(longest, device=level.device)  # K L
        inside = frames < ends[:, None]
        frames = frames.clamp_max(T - 1).flatten()
        usable = alive[:, frames].unflatten(1, (-1, longest)) & inside  # B K L
        count = usable.sum(-1)  # B K
        values = level[:, frames].unflatten(1, (-1, longest))  # B K L G
        values = torch.where(usable[..., None], values, torch.full_like(values, FAR)).transpose(2, 3)
        quantiles = _quantile(values, count[..., None], QUANTILE)  # B K G
        frame = torch.arange(T, device=level.device)
        block = (ends[None] <= frame[:, None]).sum(1)  # T: the block of each frame
        return quantiles[:, block], (count == 0)[:, block]

    def speech(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """`spans_of_speech` of a score (B, T): the frames of the spans (B, T) bool, all where there is none, and whether there
        is any (B, 1)."""
        B, T = score.shape
        frame = torch.arange(T, device=score.device)
        loud = score >= self.spec.edge
        before = loud.long().cumsum(1) - loud.long()  # loud frames before each
        gap = math.floor(self.spec.pause * self.rate) + 1
        begins = loud & (before == before[:, (frame - gap).clamp_min(0)])
        group = begins.long().cumsum(1) * loud.long()  # 0: of none
        zeros = torch.zeros(B, T + 1, dtype=torch.long, device=score.device)
        size = zeros.scatter_add(1, group, loud.long())
        last = zeros.scatter_reduce(1, group, frame.expand(B, T), "amax")
        clearest = zeros.float().scatter_reduce(1, group, score, "amax")
        good = (size >= SHORTEST * self.rate) & (clearest >= self.spec.threshold)
        running = begins.long().cumsum(1)  # the group of each frame, pauses and what follows the group included
        within = (running > 0) & good.gather(1, running) & (frame <= last.gather(1, running))
        around = round(self.spec.margin * self.rate)
        spread = F.max_pool1d(within.float(), 2 * around + 1, 1, around) > 0 if around else within
        spread = spread | (frame[-1:] + 1 < JUDGED * self.rate)  # too short to have a background
        found = spread.any(1, keepdim=True)
        return spread | ~found, found

    def level(self, magnitudes: Tensor, loud: Tensor) -> Tensor:
        """The level in decibels (B, 1) of the frames `loud` (B, T), of all where there is none."""
        power = magnitudes[..., self.voiced].square().sum(-1)  # B T
        loud = loud | ~loud.any(1, keepdim=True)
        values = torch.where(loud, power, torch.full_like(power, FAR))
        return 10 * (_quantile(values, loud.sum(1), LOUD)[:, None] + 1e-20).log10()


def _quantile(values: Tensor, count: Tensor, q: float) -> Tensor:
    """The quantile, linear between two, of the `count` (...) smallest of values (..., L); anything where there are none."""
    ordered = values.sort(dim=-1).values
    rank = q * (count - 1).clamp_min(0).float()
    below, above = rank.floor().long(), rank.ceil().long()
    shape = values.shape[:-1]
    low = ordered.gather(-1, below.expand(shape)[..., None])[..., 0]
    high = ordered.gather(-1, above.expand(shape)[..., None])[..., 0]
    return low + (high - low) * (rank - rank.floor())


def _to_front(mel: Tensor, kept: Tensor) -> Tensor:
    """mel (B, T, M) with the frames `kept` (B, T) first, in their order."""
    B, T, M = mel.shape
    frame = torch.arange(T, device=mel.device).expand(B, T)
    order = torch.where(kept, frame, frame + T).sort(dim=1).values
    order = torch.where(order < T, order, order - T)
    return mel.gather(1, order[..., None].expand(B, T, M))
