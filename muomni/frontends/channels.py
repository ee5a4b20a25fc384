"""What a sound file's channels and numbers mean: one waveform out of several channels, samples in [-1, 1].

A mean over channels loses what stands in them with opposite signs (a wrongly wired plug, a balanced line taken for stereo)
and sinks where most of them are silent. So a channel that mirrors the loudest one is turned, and silent ones do not count.
A float file whose samples go far beyond 1 holds whole numbers of 16, 24 or 32 bits.

Legend: N samples, C channels.
"""

import numpy as np

SILENT = 1e-4  # of the loudest channel's power: 40 dB below
MIRRORED = -0.3  # correlation with the loudest channel
LOUDEST = 8.0  # a float file may go above 1; 18 dB above, its scale is another
SCALES = {16: 2.0**15, 24: 2.0**23, 32: 2.0**31}  # bits -> full scale
CLIPPED = 0.005  # share of samples that are the greatest one; a voice has a few of these


def mix_down(samples: np.ndarray) -> tuple[np.ndarray, str | None]:
    """(N, C) -> mono (N) and what there is to say about it, or None."""
    if samples.shape[1] == 1 or not len(samples):
        return samples[:, 0], None
    centred = samples - samples.mean(axis=0)
    power = np.einsum("nc,nc->c", centred, centred, dtype=np.float64)
    loudest = int(power.argmax())
    heard = power >= SILENT * power[loudest]
    shared = centred.T @ centred[:, loudest]
    mirrored = heard & (shared < MIRRORED * np.sqrt(np.maximum(power * power[loudest], 1e-300)))
    if heard.all() and not mirrored.any():
        return samples.mean(axis=1), None
    weights = np.where(mirrored, -1.0, 1.0) * heard / heard.sum()
    remark = "a channel is inverted; it is turned before they are mixed" if mirrored.any() else None
    return samples @ weights.astype(samples.dtype), remark


def to_unit_scale(samples: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Samples of a float file -> the same in the scale of 1, and what there is to say about it. Raises ValueError where they
    are no numbers of up to 32 bits."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak <= LOUDEST:
        return samples, None
    for bits, full in SCALES.items():
        if peak <= full:
            return samples / np.float32(
                full
            ), f"its float samples are taken as numbers of {bits} bits, which they look like"
    raise ValueError(f"holds samples up to {peak:.3g}, where 1 is full scale: it is damaged")


def clipping(samples: np.ndarray) -> str | None:
    """What there is to say about a waveform (N) that was cut off at its greatest value, or None."""
    if len(samples) < 1000:
        return None
    high, low = float(samples.max()), float(samples.min())
    if max(high, -low) < 0.1:
        return None
    share = float(((samples == high).mean() + (samples == low).mean()) if high > low else 0.0)
    return "it is clipped: many samples stand at its limit" if share > 2 * CLIPPED else None
