"""Acoustic conditions simulated on the log-mel of a clip: silence around it, noise of any colour, a telephone's band, or no
voice at all. A pure function of its random generator.

Powers add: a bin of magnitude s under noise of magnitude n has sqrt(s^2 + n^2). The noise is cut from the spectrogram of real
noise, so that it flickers as noise does. A voice was brought to a known level before (muomni/frontends/hearing.py), so a
distance in decibels needs no measuring.

Legend: T frames, M mel bins, K frames of the bank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from datamodules.mel_cache import MelCache
from muomni.frontends.hearing import HearingSpec
from muomni.frontends.mel import LOG_MEAN, LOG_STD, LogMel, MelSpec

Array = np.ndarray
SECONDS = 8.0  # of each noise in the bank
COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0, "blue": -0.25}  # the amplitude falls with this power of frequency
MAINS = (50.0, 60.0)  # Hz of a hum and its overtones
VOICE = -13.5  # dB of the RMS of a voice whose level is 0, in 128 bins: of espeak, LJSpeech and AN4
DECIBEL = np.log(10.0) / 20.0 / LOG_STD  # in units of the normalised log-mel
LINE = (300.0, 3200.0, 4200.0)  # Hz: where a telephone's band begins, and between which it ends


@dataclass(frozen=True, slots=True)
class SimulatedMel:
    """mel (T, M), of which `lead` frames at the front and `trail` at the end may be left out; has_speech: False for noise."""

    mel: Array
    lead: int
    trail: int
    has_speech: bool


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Acoustic conditions of training clips.

    noise: share of the clips with background noise. snr: decibels between the two, from and to.
    telephone: share of the clips with the band of a telephone line (8 kHz). silence: share of the clips without a voice.
    margin: most seconds of silence (or noise) on each side.
    """

    noise: float
    snr: Sequence[float]
    telephone: float
    silence: float
    margin: float

    def __post_init__(self) -> None:
        for name in ("noise", "telephone", "silence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"datamodule.conditions.{name}={getattr(self, name)}: a share, from 0 to 1, is needed")
        if len(self.snr) != 2 or self.snr[0] > self.snr[1] or self.margin < 0:
            given = f"snr={list(self.snr)} margin={self.margin}"
            raise ValueError(
                f"datamodule.conditions: {given}: decibels from and to, and at least 0 seconds, are needed"
            )


class AcousticSimulator:
    """Callable: mel (T, M) -> `SimulatedMel`. level: dB that voices were brought to."""

    def __init__(self, conditions: Conditions, mel: MelSpec, *, level: float) -> None:
        self.how, self.mel = conditions, mel
        frontend = LogMel(mel)
        self.centres = np.linspace(0, mel.sample_rate / 2, len(frontend.filters))[frontend.filters.argmax(0).numpy()]
        self.floor = np.float32((np.log(mel.floor) - LOG_MEAN) / LOG_STD)
        self.voice = level + VOICE + 10 * np.log10(mel.bins / 128)  # a wide bin gathers more of the same voice
        self.noises = [_log(frontend, noise) for noise in _noises(mel.sample_rate)]

    def __call__(self, mel: Array, rng: np.random.Generator) -> SimulatedMel:
        how = self.how
        lead, trail = self.margins(rng)
        spoken = rng.random() >= how.silence
        noisy = not spoken or rng.random() < how.noise
        line = rng.random() < how.telephone
        before = rng.random() < 0.5
        whole = np.full((lead + len(mel) + trail, mel.shape[1]), self.floor, dtype=np.float32)
        if spoken:
            whole[lead : lead + len(mel)] = mel
        if line and before:
            self._telephone(whole, rng)
        if noisy:
            distance = rng.uniform(how.snr[0], how.snr[1]) if spoken else rng.uniform(-5.0, how.snr[1])
            whole = self._under_noise(whole, self.voice - distance, rng)
        if line and not before:
            self._telephone(whole, rng)
        return SimulatedMel(whole, lead, trail, spoken)

    def margins(self, rng: np.random.Generator) -> tuple[int, int]:
        """Frames of silence before and after a clip: the first numbers drawn."""
        lead, trail = rng.integers(0, round(self.how.margin * self.mel.frame_rate) + 1, 2)
        return int(lead), int(trail)

    def _under_noise(self, mel: Array, level: float, rng: np.random.Generator) -> Array:
        """level: dB of the noise's RMS; it may swell or sink by a few decibels from the first frame to the last."""
        noise = self.noises[int(rng.integers(len(self.noises)))]
        frames = (int(rng.integers(len(noise))) + np.arange(len(mel))) % len(noise)
        first, last = rng.uniform(-3.0, 3.0, 2)
        course = np.linspace(first, last, len(mel), dtype=np.float32)
        mixed: Array = noise[frames]
        mixed += ((level + course) * DECIBEL).astype(np.float32)[:, None]
        power = np.float32(2 * LOG_STD)
        distance = np.abs(mel - mixed)  # in place and in float32: a third of logaddexp's time
        np.maximum(mel, mixed, out=mixed)
        distance *= -power
        np.exp(distance, out=distance)
        distance += np.float32(1)
        np.log(distance, out=distance)
        distance /= power
        mixed += distance
        return mixed

    def _telephone(self, mel: Array, rng: np.random.Generator) -> None:
        """In place: nothing above the band, and for half of the lines nothing below it."""
        lowest, first, last = LINE
        mel[:, self.centres > rng.uniform(first, last)] = self.floor
        if rng.random() < 0.5:
            mel[:, self.centres < lowest] = self.floor


def simulator_for(conditions: Conditions | None, mel: MelSpec, hearing: HearingSpec | None) -> AcousticSimulator | None:
    """The simulator, None without conditions. Raises ValueError for conditions without a level of the voices."""
    if conditions is None:
        return None
    if mel.kind != "log_mel":
        raise ValueError(f"datamodule.conditions are mixed in a log-mel, not in mel.kind={mel.kind}: give null")
    if hearing is None:
        raise ValueError("datamodule.conditions: noise is mixed relative to a known level; give datamodule.hearing")
    return AcousticSimulator(conditions, mel, level=hearing.level)


class FixedConditions:
    """Mels by index, like a `MelCache`, each under conditions of its own that never change, so that features of a frozen encoder
    can still be computed once. A clip of no frames stays one."""

    def __init__(self, mels: MelCache, simulate: AcousticSimulator, *, seed: int) -> None:
        self.mels, self.simulate, self.seed = mels, simulate, seed
        around = [sum(simulate.margins(self._rng(index))) for index in range(len(mels.lengths))]
        self.lengths = np.where(mels.lengths > 0, mels.lengths + np.array(around, dtype=np.int64), 0)

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, index])

    def __getitem__(self, index: int) -> Array:
        """(T, M) float32."""
        return self.simulate(self.mels[index], self._rng(index)).mel


def _noises(rate: int) -> list[Array]:
    """Waveforms of RMS 1: noise of some colours, and hums with their overtones in a little noise."""
    rng = np.random.default_rng(0)
    count = round(SECONDS * rate)
    frequencies = np.fft.rfftfreq(count, 1 / rate).clip(20.0)
    white = np.fft.rfft(rng.normal(size=count))
    waves = [np.fft.irfft(white / frequencies**slope, count) for slope in COLOURS.values()]
    waves.append(np.fft.irfft(white / (1 + (frequencies / 500.0) ** 2), count))  # as loud as voices along the scale
    time = np.arange(count) / rate
    for mains in MAINS:
        hum = sum(np.sin(2 * np.pi * mains * k * time + k) / k for k in range(1, 9))
        waves.append(hum + 0.05 * rng.normal(size=count))
    return [wave / np.sqrt(np.square(wave).mean()) for wave in waves]


def _log(frontend: LogMel, wave: Array) -> Array:
    """The normalised log-mel of a waveform, however loud it is: no floor."""
    magnitudes = frontend.magnitudes(torch.from_numpy(wave.astype(np.float32))[None])[0].numpy()
    return ((np.log(np.maximum(magnitudes, 1e-12)) - LOG_MEAN) / LOG_STD).astype(np.float32)
