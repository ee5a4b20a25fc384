"""Augmentation of log-mels: speed, frequency warp, gain, equalizer, noise, and SpecAugment's masks (Park et al. 2019,
arXiv:1904.08779). A pure function of its generator.

Legend: T frames, M mel bins.
"""

from dataclasses import dataclass

import numpy as np

from muomni.frontends.mel import LOG_STD

Array = np.ndarray
CURVE = 5  # values of an equalizer


@dataclass(frozen=True, kw_only=True)
class MelAugment:
    """Callable: mel (T, M) float32 -> another, T changed by the speed.

    speed, warp: largest relative change of tempo and of the frequency axis (0.1 is +-10 %).
    gain: largest change of level, in dB. equalizer: largest change of any frequency's level, in dB, smooth over the axis: other
        microphones and voices (as FilterAugment, Nam et al. 2021, arXiv:2107.13260).
    noise: a floor of noise up to this many mel units (standard deviations of the log) above the clip's quietest level; 0: none.
    time_masks, time_width: how many spans of frames, at most so wide, are replaced by the clip's mean; freq_* in bins.
    """

    speed: float
    warp: float
    gain: float
    noise: float
    time_masks: int
    time_width: int
    freq_masks: int
    freq_width: int
    equalizer: float = 0.0

    def frames(self, T: int, rng: np.random.Generator) -> int:
        """How many frames a clip of T has at the speed that is drawn, which is drawn first of all."""
        return max(1, round(T * (1 + rng.uniform(-self.speed, self.speed)))) if self.speed else T

    def __call__(self, mel: Array, rng: np.random.Generator) -> Array:
        """Augment one clip."""
        T, M = mel.shape
        if self.speed:
            frames = self.frames(T, rng)
            mel = stretch(mel, np.linspace(0, T - 1, frames, dtype=np.float32))
        if self.warp:
            bins = np.arange(M, dtype=np.float32) * (1 + rng.uniform(-self.warp, self.warp))
            mel = stretch(np.ascontiguousarray(mel.T), np.minimum(bins, M - 1)).T
        mel = np.array(mel, dtype=np.float32)
        lowest = float(mel.min())
        if self.gain:
            mel += rng.uniform(-self.gain, self.gain) * (np.log(10.0) / 20.0 / LOG_STD)
            np.maximum(mel, lowest, out=mel)
        if self.equalizer:
            mel += _curve(rng, M) * np.float32(self.equalizer * np.log(10.0) / 20.0 / LOG_STD)
            np.maximum(mel, lowest, out=mel)
        if self.noise:
            level = lowest + rng.uniform(0, self.noise)
            floor = level + rng.normal(0, 0.2, mel.shape).astype(np.float32)
            mel = np.logaddexp(mel * LOG_STD, floor * LOG_STD) / LOG_STD
        mean = mel.mean()
        for _ in range(self.time_masks):
            start, end = random_span(rng, len(mel), self.time_width)
            mel[start:end] = mean
        for _ in range(self.freq_masks):
            start, end = random_span(rng, M, self.freq_width)
            mel[:, start:end] = mean
        return mel


def stretch(x: Array, where: Array) -> Array:
    """x (N, C) read at the fractional rows `where` (n), linearly interpolated -> (n, C)."""
    low = where.astype(np.int64)
    high = np.minimum(low + 1, len(x) - 1)
    share = (where - low).astype(np.float32)[:, None]  # in float64 it takes twice the time
    first = x[low]
    between: Array = x[high]
    between -= first
    between *= share
    between += first
    return between


def _curve(rng: np.random.Generator, bins: int) -> Array:
    """(bins) float32 within [-1, 1]: straight lines between `CURVE` random values at random bins, the ends included."""
    inside = np.sort(rng.uniform(0, bins - 1, CURVE - 2))
    return np.interp(np.arange(bins), [0, *inside, bins - 1], rng.uniform(-1, 1, CURVE)).astype(np.float32)


def random_span(rng: np.random.Generator, total: int, width: int) -> tuple[int, int]:
    """(begin, end) of a random span of at most `width`, and at most half of the axis."""
    size = int(rng.integers(0, min(width, total // 2) + 1))
    start = int(rng.integers(0, total - size + 1))
    return start, start + size
