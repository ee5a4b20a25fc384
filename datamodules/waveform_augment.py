"""Augmentation of recordings, before their spectrogram is computed: what a log-mel cannot be given afterwards. In the order in
which it happens to speech: tempo and pitch of the speaker, the echo of a room, noise around, the level of the recorder, and a
codec or a narrow band on the way. A pure function of its generator. What the log-mel can be given (frequency warp, gain, masks,
stationary noise) costs a tenth there: augment.py, conditions.py, spec_augment.py.

Legend: N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import fftconvolve

from datamodules.codec_augment import CODECS, through_codec
from datamodules.waveform_cache import WaveformCache
from muomni.frontends.audio_io import WRITTEN, resample
from muomni.frontends.hearing import Hearing
from muomni.user_path import user_path

DIRECT = (0.0, 15.0)  # dB of the direct sound above a simulated echo
SHARES = ("reverb", "noise", "codec")


@dataclass(kw_only=True)
class WaveformAugment:
    """Options of `WaveformAugmenter`.

    speeds: factors, one of which is drawn for a clip; tempo, pitch and formants change together. reverb: share of the clips with
        an echo: one of the recordings in the folder `impulses`, or a simulated one whose decay by 60 dB takes `decay` seconds,
        from and to. noise: share of the clips under a piece of a recording in the folder `noises`, speech being `snr` dB above
        it, from and to. gain: largest change of level, in dB; what exceeds full scale is clipped. codec: share of the clips that
        go through one of `codecs` (codec_augment.py). memory_mb: for clips, noises and impulses each.
    """

    speeds: Sequence[float]
    reverb: float
    impulses: str | None
    decay: Sequence[float]
    noise: float
    noises: str | None
    snr: Sequence[float]
    gain: float
    codec: float
    codecs: Sequence[str]
    memory_mb: int

    def __post_init__(self) -> None:
        where = "datamodule.waveform_augment"
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{where}.{name}={getattr(self, name)}: a share, from 0 to 1, is needed")
        if not self.speeds or not all(0.5 <= speed <= 2 and round(100 * speed, 6) % 1 == 0 for speed in self.speeds):
            raise ValueError(
                f"{where}.speeds={list(self.speeds)}: factors of at most two decimals, 0.5 to 2, are needed"
            )
        for name in ("decay", "snr"):
            pair = list(getattr(self, name))
            if len(pair) != 2 or pair[0] > pair[1] or (name == "decay" and pair[0] <= 0):
                raise ValueError(f"{where}.{name}={pair}: two numbers, from and to, are needed")
        if self.noise and self.noises is None:
            raise ValueError(f"{where}.noise={self.noise}: name a folder of recordings, {where}.noises=FOLDER")
        unknown = sorted(set(self.codecs) - set(CODECS))
        if unknown or (self.codec and not self.codecs):
            raise ValueError(f"{where}.codecs={list(self.codecs)}: some of {', '.join(CODECS)} are needed")

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return bool(self.reverb or self.noise or self.gain or self.codec or set(self.speeds) != {1})


class WaveformAugmenter:
    """Callable: waveform (N) float32 -> another, whose length the speed changes; the same object where nothing was drawn.

    Args:
        options: what is drawn, and how often. sample_rate: in Hz, of clips, noises and impulses. shortest: samples; a clip is not
            sped up to fewer.
    """

    def __init__(self, options: WaveformAugment, *, sample_rate: int, shortest: int) -> None:
        self.options, self.sample_rate, self.shortest = options, sample_rate, shortest
        self.noises = self._folder("noises") if options.noise else None
        self.impulses = self._folder("impulses") if options.reverb and options.impulses else None

    def _folder(self, name: str) -> WaveformCache:
        option = f"datamodule.waveform_augment.{name}"
        folder = Path(user_path(getattr(self.options, name)))
        rows = [
            {"id": str(path.relative_to(folder)), "audio": str(path.absolute())}
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in WRITTEN
        ]
        if not rows:
            raise ValueError(f"{option}={folder}: no such folder, or no recordings in it ({', '.join(WRITTEN)})")
        memory = self.options.memory_mb
        found = WaveformCache(rows, sample_rate=self.sample_rate, memory_mb=memory, what=str(folder))
        if not found.lengths.any():
            raise ValueError(f"{option}={folder}: none of its {len(rows)} recordings can be read")
        return found

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One clip, in [-1, 1]."""
        how, x = self.options, waveform
        factor = float(how.speeds[int(rng.integers(len(how.speeds)))])
        if factor != 1 and len(x) / factor >= self.shortest:
            x = _numpy(resample(torch.from_numpy(x), round(self.sample_rate * factor), self.sample_rate))
        if rng.random() < how.reverb:
            x = reverberate(x, self._impulse(rng))
        if self.noises is not None and rng.random() < how.noise:
            x = add_noise(x, _recording(self.noises, rng), rng.uniform(how.snr[0], how.snr[1]), rng)
        if how.gain:
            x = np.clip(x * np.float32(10 ** (rng.uniform(-how.gain, how.gain) / 20)), -1, 1)
        if rng.random() < how.codec:
            x = through_codec(x, self.sample_rate, how.codecs[int(rng.integers(len(how.codecs)))])
        return x

    def mel(self, waveform: np.ndarray, prepare: Hearing, rng: np.random.Generator) -> np.ndarray | None:
        """The log-mel (T, M) of an augmented clip, prepared as at inference: levelled and trimmed after the noise has come.
        None where nothing was drawn."""
        augmented = self(waveform, rng)
        return None if augmented is waveform else prepare(torch.from_numpy(augmented)).trimmed().numpy()

    def _impulse(self, rng: np.random.Generator) -> np.ndarray:
        if self.impulses is not None:
            return _recording(self.impulses, rng)
        first, last = self.options.decay
        return simulated_impulse(self.sample_rate, rng.uniform(first, last), rng.uniform(*DIRECT), rng)


def _recording(recordings: WaveformCache, rng: np.random.Generator) -> np.ndarray:
    """One that could be read."""
    readable = np.flatnonzero(recordings.lengths)
    return recordings[int(readable[int(rng.integers(len(readable)))])]


def add_noise(x: np.ndarray, noise: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """x (N) + a piece of the noise, repeated where it is shorter, `snr` dB below it by mean power. Silence stays what it is."""
    start = int(rng.integers(len(noise)))
    piece = np.resize(np.roll(noise, -start), len(x))
    power, disturbing = float(np.square(x).mean()), float(np.square(piece).mean())
    if not power or not disturbing:
        return x
    scale = np.sqrt(power / disturbing) * 10 ** (-snr / 20)
    mixed: np.ndarray = x + piece * np.float32(scale)
    return mixed


def simulated_impulse(rate: int, decay: float, direct: float, rng: np.random.Generator) -> np.ndarray:
    """A room as noise that decays by 60 dB in `decay` seconds (Polack 1988), its energy `direct` dB below the direct sound's."""
    count = max(2, round(decay * rate))
    tail = rng.normal(size=count) * np.exp(-np.log(1000.0) * np.arange(count) / count)
    tail[0] = 0.0
    tail *= 10 ** (-direct / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def reverberate(x: np.ndarray, impulse: np.ndarray) -> np.ndarray:
    """x (N) in a room (N), as loud as before. The impulse's peak is the direct sound: what is said stays where it was."""
    peak = int(np.abs(impulse).argmax())
    echo = fftconvolve(torch.from_numpy(x), torch.from_numpy(impulse))[peak : peak + len(x)]
    power, after = float(np.square(x).mean()), float(echo.square().mean())
    return _numpy(echo * float(np.sqrt(power / after))) if after else x


def _numpy(x: Tensor) -> np.ndarray:
    array: np.ndarray = x.numpy()
    return array
