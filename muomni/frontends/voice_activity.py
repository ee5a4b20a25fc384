"""Voice activity: frames that stand out of the background, whatever its colour and level.

The background of a recording is the low quantile of each band's power over time. Hiss, a fan or a mains hum are their own
background at any level, so nothing stands out of them; speech rises and falls by tens of decibels. Digital silence is left out
of the background: it says nothing of the noise next to it.

Legend: T frames, M mel bins, G bands.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BANDS = 16
LOWEST_HERTZ = 100.0  # below are hum, rumble and an offset
QUANTILE = 0.1
BLOCK = 30.0  # seconds that share a background
NOTHING = -110.0  # dB: below is no sound
DYNAMIC = 60.0  # dB below the loudest band and frame that are told apart
SMOOTH = 0.05  # seconds of power that are averaged
NOISE = 3.0  # dB by which a band's noise stands above its own low quantile
SHORTEST = 0.1  # seconds of frames that stand out, of one sound: less is a click


def band_power(magnitudes: Tensor, centres: Tensor) -> Tensor:
    """Mel magnitudes (T, M) and the centre of each bin in Hz (M) -> power of bands (T, G)."""
    speech = magnitudes[:, centres >= LOWEST_HERTZ]
    width = max(1, speech.shape[1] // BANDS)
    usable = speech[:, : speech.shape[1] // width * width]
    return usable.square().view(len(usable), -1, width).mean(-1)


def speech_salience(power: Tensor, *, frame_rate: float) -> Tensor:
    """power (T, G) -> by how many decibels each frame stands out of the background, on average over bands (T)."""
    T = len(power)
    width = 2 * (round(SMOOTH * frame_rate) // 2) + 1
    smooth = F.avg_pool1d(power.T[None], width, 1, width // 2, count_include_pad=False)[0].T
    level = 10 * (smooth + 1e-20).log10()
    peak = float(level.max())
    if peak < NOTHING:
        return torch.zeros(T)
    level = level.clamp_min(peak - DYNAMIC)
    alive = (level > peak - DYNAMIC).any(1)
    blocks = max(1, -(-T // round(BLOCK * frame_rate)))
    score = torch.zeros(T)
    for block in range(blocks):
        begin, end = T * block // blocks, T * (block + 1) // blocks
        sounding = level[begin:end][alive[begin:end]]
        if len(sounding):
            background = sounding.quantile(QUANTILE, dim=0)
            score[begin:end] = (level[begin:end] - background - NOISE).clamp_min(0).mean(1)
    return score


def spans_of_speech(
    score: Tensor, *, threshold: float, edge: float, margin: float, pause: float, frame_rate: float
) -> list[tuple[int, int]]:
    """score (T) -> frames (begin, end) of what stands out, with `margin` seconds on both sides, apart by more than
    `pause` seconds of background; clicks are none. A sound stands out by `threshold` decibels at its clearest and by `edge`
    all along it."""
    loud = (score >= edge).int()
    edges = torch.diff(loud, prepend=loud.new_zeros(1), append=loud.new_zeros(1))
    runs = list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))
    groups: list[list[tuple[int, int]]] = []
    for run in runs:
        if groups and run[0] - groups[-1][-1][1] <= pause * frame_rate:
            groups[-1].append(run)
        else:
            groups.append([run])
    around = round(margin * frame_rate)
    spans: list[tuple[int, int]] = []
    for group in groups:
        begin, end = group[0][0], group[-1][1]
        if sum(b - a for a, b in group) < SHORTEST * frame_rate or float(score[begin:end].max()) < threshold:
            continue
        begin, end = max(0, begin - around), min(len(score), end + around)
        if spans and begin <= spans[-1][1]:
            begin, _ = spans.pop()
        spans.append((begin, end))
    return spans
