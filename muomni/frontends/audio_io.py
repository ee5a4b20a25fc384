"""Sound files: the only file of the project that reads or writes audio (torchaudio >= 2.9 has no own I/O).

Shapes: N samples.
"""

import os
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

MAX_SECONDS = 30 * 60  # a small compressed file can decode to gigabytes: the header is checked before decoding
MAX_SAMPLES = MAX_SECONDS * 48_000 * 2
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000  # Hz; what a header says beyond is damage
LARGEST_RATIO = 2000  # numbers in the ratio of two rates: resampling takes their product, 44101 : 16000 took 20 s


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """Read a sound file as a mono waveform (N,) float32, about [-1, 1], resampled to `sample_rate` Hz.

    Raises FileNotFoundError where there is no such file and ValueError for one that is corrupt, empty, holds
    NaN or Inf, or is longer than 30 minutes. Both name the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such audio file: {path}")
    try:
        with soundfile.SoundFile(path) as file:
            _check_header(path, file.frames, file.channels, file.samplerate)
            samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.SoundFileError, RuntimeError, EOFError, TypeError) as error:  # TypeError: the name NAME.raw
        raise ValueError(f"cannot read {path} as audio (wav, flac, ogg or mp3): {error}") from error
    if len(samples) == 0:
        raise ValueError(f"the audio file {path} is empty: it holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"the audio file {path} holds NaN or Inf samples")
    waveform = torch.from_numpy(samples.mean(axis=1))
    return resample(waveform, rate, sample_rate)


def _check_header(path: Path, frames: int, channels: int, rate: int) -> None:
    if frames > MAX_SECONDS * rate or frames * channels > MAX_SAMPLES:
        raise ValueError(
            f"the audio file {path} is too long: {frames / rate:.0f} s x {channels} channels, "
            f"at most {MAX_SECONDS} s; cut it into pieces"
        )
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"the audio file {path} says {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz are read: its header is damaged"
        )


def resample(waveform: Tensor, rate: int, target: int) -> Tensor:
    """Resample (..., N) from `rate` to `target` Hz; the same tensor when the rates agree.

    A ratio of large numbers is replaced by the nearest of small ones, at most 0.03 % off.
    """
    if rate == target:
        return waveform
    finest = max(1, LARGEST_RATIO * target // max(rate, target))
    ratio = Fraction(rate, target).limit_denominator(finest)
    resampled: Tensor = torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)
    return resampled


def check_target(path: str | Path) -> None:
    """Make the folder of a file that will be written. Raises ValueError where the path cannot be a file's, and OSError."""
    path = Path(path)
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise ValueError(
            f"cannot write {path}: a folder, or a file in place of a folder, is in the way; name another file"
        )
    path.parent.mkdir(parents=True, exist_ok=True)


def write_wav(path: str | Path, waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform (N,) as 16-bit wav, atomically: nothing half-written stays behind.

    Samples are clipped to [-1, 1]. Raises ValueError for a waveform that is not finite or not one-dimensional, and for a path
    that cannot be a file's.
    """
    path = Path(path)
    if waveform.dim() != 1 or waveform.numel() == 0:
        raise ValueError(f"cannot write {path}: a waveform (N,) is needed, not the shape {tuple(waveform.shape)}")
    if not bool(torch.isfinite(waveform).all()):
        raise ValueError(f"cannot write {path}: the waveform holds NaN or Inf")
    check_target(path)
    samples = waveform.detach().float().clamp(-1.0, 1.0).cpu().numpy()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        soundfile.write(temporary, samples, sample_rate, format="WAV", subtype="PCM_16")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
