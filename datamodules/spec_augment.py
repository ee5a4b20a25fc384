"""SpecAugment (Park et al. 2019, arXiv:1904.08779) as the last thing that happens to a log-mel: a time warp, then masks over
time and frequency, which hide noise and silence too. It can return two views of a clip, which differ in their masks alone, so
that a frame of one is the same moment in the other: what a consistency loss compares (Yao et al. 2024, arXiv:2410.05101).

`MelAugment` has masks as well, under the simulated noise: what hides a voice there is quiet, not missing.

Legend: T frames, M mel bins.
"""

from dataclasses import dataclass

import numpy as np

from datamodules.augment import Array, random_span, stretch


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """Callable: mel (T, M) float32 -> its views, each (T, M).

    time_warp: most frames that a random frame is moved by, the frames around it stretched or squeezed; 0: none.
    time_masks, time_width: how many spans of frames, at most so wide, are replaced by the clip's mean. time_share: the largest
        share of a clip that they replace together. freq_masks, freq_width: spans of bins.
    views: how many, 1 or 2.
    """

    time_warp: int
    time_masks: int
    time_width: int
    time_share: float
    freq_masks: int
    freq_width: int
    views: int

    def __post_init__(self) -> None:
        where = "datamodule.spec_augment"
        for name in ("time_warp", "time_masks", "time_width", "freq_masks", "freq_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{where}.{name}={getattr(self, name)}: at least 0 is needed")
        if not 0 <= self.time_share <= 1:
            raise ValueError(f"{where}.time_share={self.time_share}: a share, from 0 to 1, is needed")
        if self.views not in (1, 2):
            raise ValueError(f"{where}.views={self.views}: 1, or 2 for a consistency loss")

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return self.views > 1 or any((self.time_warp, self.time_masks, self.freq_masks))

    def __call__(self, mel: Array, rng: np.random.Generator) -> list[Array]:
        """Draw the warp once, and masks for each view."""
        warped = warp_time(mel, self.time_warp, rng)
        return [self._mask(warped, rng) for _ in range(self.views)]

    def _mask(self, mel: Array, rng: np.random.Generator) -> Array:
        T, M = mel.shape
        masked = np.array(mel, dtype=np.float32)
        mean = masked.mean()
        width = min(self.time_width, int(T * self.time_share / max(1, self.time_masks)))
        for _ in range(self.time_masks):
            start, end = random_span(rng, T, width)
            masked[start:end] = mean
        for _ in range(self.freq_masks):
            start, end = random_span(rng, M, self.freq_width)
            masked[:, start:end] = mean
        return masked


def warp_time(mel: Array, most: int, rng: np.random.Generator) -> Array:
    """A frame of mel (T, M) that is at least `most` from both ends is moved by up to `most` frames; the ends stay. A clip too
    short for it stays as it is."""
    T = len(mel)
    if not most or 2 * most + 2 > T:
        return mel
    centre = int(rng.integers(most, T - most))
    target = centre + int(rng.integers(-most, most + 1))
    if not 0 < target < T - 1:
        return mel
    return stretch(mel, np.interp(np.arange(T), [0, target, T - 1], [0, centre, T - 1]).astype(np.float32))
