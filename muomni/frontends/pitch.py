"""Pitch of a voice, and whether a recording has two voices of clearly different pitch.

The pitch of a frame is the lag of the highest peak of its autocorrelation, divided by that of the window (Boersma 1993,
Proceedings of the Institute of Phonetic Sciences 17, 97-110); of peaks nearly as high the shortest lag is taken, against errors
of an octave.

Legend: N samples, T frames, W samples a frame, P voiced frames.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RATE = 8000  # Hz, of the waveform
FRAME, HOP = 0.04, 0.02  # seconds
LOWEST, HIGHEST = 65.0, 400.0  # Hz, of adults who read
VOICED = 0.6  # autocorrelation of a frame that has a pitch, at least
NEARLY = 0.85  # share of the highest peak that a shorter lag needs
QUIET = 30.0  # dB below the loudest frame: not speech
WINDOW = 25  # voiced frames that share a pitch, half a second
APART = 10.0  # semitones between the pitches of two voices
EMPTY = 4.0  # semitones between them that no stretch has
SHARE = 0.25  # of the stretches that the rarer voice has, at least


def pitches(waveform: Tensor) -> Tensor:
    """waveform (N,) at `RATE` Hz -> pitch of its frames in Hz (T), 0 where there is none."""
    size, hop = round(FRAME * RATE), round(HOP * RATE)
    if len(waveform) < size:
        return torch.zeros(0)
    window = torch.hann_window(size, periodic=False)
    frames = waveform.float().unfold(0, size, hop)
    frames = (frames - frames.mean(1, keepdim=True)) * window
    correlation = _autocorrelation(frames) / _autocorrelation(window[None]).clamp_min(1e-9)
    energy = correlation[:, 0]
    correlation = correlation / energy.clamp_min(1e-12)[:, None]
    first, last = int(RATE / HIGHEST), math.ceil(RATE / LOWEST)
    inner = correlation[:, first - 1 : last + 2]
    peak = (inner[:, 1:-1] >= inner[:, :-2]) & (inner[:, 1:-1] > inner[:, 2:])
    height = torch.where(peak, inner[:, 1:-1], 0.0)
    best = height.amax(1)
    lag = first + (height >= NEARLY * best[:, None]).int().argmax(1)  # the first of them
    loud = energy > energy.amax() * 10 ** (-QUIET / 10)
    return torch.where((best > VOICED) & loud, RATE / lag, 0.0)


def _autocorrelation(frames: Tensor) -> Tensor:
    """(T, W) -> lags 0..W - 1 (T, W)."""
    size = frames.shape[1]
    return torch.fft.irfft(torch.fft.rfft(F.pad(frames, (0, size))).abs().square())[:, :size]


def two_voices(pitch: Tensor) -> tuple[float, float] | None:
    """pitch (T) of a recording's frames in Hz -> the pitches of its two voices, the lower one first; None where it has one, two
    of like pitch, or too little speech to tell.

    A reader's pitch rises and falls by an octave, but its median over half a second rarely by so much without all between.
    So two voices are two groups of such medians, far apart and with nothing between them: a man and a woman, not two of either.
    """
    voiced = pitch[pitch > 0]
    count = len(voiced) // WINDOW
    if count < 4:
        return None
    medians = (voiced[: count * WINDOW].view(count, WINDOW).median(1).values.log2() * 12).sort().values
    gaps = medians.diff()
    least = max(2, math.ceil(SHARE * count))
    for below in range(least, count - least + 1):
        low, high = medians[:below].median(), medians[below:].median()
        if gaps[below - 1] >= EMPTY and high - low >= APART:
            return float(2 ** (low / 12)), float(2 ** (high / 12))
    return None
