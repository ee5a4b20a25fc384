"""Audio files: the only file of the project that reads or writes audio (torchaudio >= 2.9 has no own I/O).

Shapes: N samples.
"""

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from muomni.checkpoints.atomic_write import atomic_write, follow
from muomni.frontends.channels import clipping, mix_down, to_unit_scale
from muomni.frontends.memory_file import File, existing
from muomni.user_path import user_path

log = logging.getLogger(__name__)

MAX_SECONDS = 30 * 60  # a small compressed file can decode to gigabytes: the header is checked before decoding
MAX_SAMPLES = MAX_SECONDS * 48_000 * 2
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000  # Hz; what a header says beyond is damage
UNKNOWN = 2**40  # frames: a stream's header that does not know its length says the greatest number there is
BLOCK = 1 << 16  # frames that are written, or of such a stream decoded, at a time
WRITTEN = {
    ".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".mp3": ("MP3", "MPEG_LAYER_III"), ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS"), ".aiff": ("AIFF", "PCM_16"), ".aif": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"), ".caf": ("CAF", "PCM_16"), ".w64": ("W64", "PCM_16"),
}  # fmt: skip
RUN_UP = 0.2  # s that are read before a cut: the first frames of an mp3 after a jump need bits of those before
OVERSHOOT = 0.5  # s that a cut may end after its recording, as of Kaldi: times are rounded
LARGEST_RATIO = 2000  # numbers in the ratio of two rates: resampling takes their product, 44101 : 16000 took 20 s


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """waveform (N,) float32 mono; remarks: what was odd about the file and how it was taken, a line each, without its name."""

    waveform: Tensor
    remarks: tuple[str, ...] = ()


class _Stream(soundfile.SoundFile):
    """Read from front to end: a FLAC of unknown length cannot report its position."""

    def seekable(self) -> bool:
        return False


def read_audio(path: File, sample_rate: int, *, seconds: float | None = None) -> Tensor:
    """`decode_audio`'s waveform (N,); what is odd about the file is logged, a line each."""
    sound = decode_audio(path, sample_rate, seconds=seconds)
    for remark in sound.remarks:
        log.warning("%s: %s", path, remark)
    return sound.waveform


def decode_audio(path: File, sample_rate: int, *, seconds: float | None = None) -> DecodedAudio:
    """Read an audio file as a mono waveform (N,) float32, about [-1, 1], resampled to `sample_rate` Hz.

    seconds: read no more than the first so many. Without it a file of more than 30 minutes is an error.
    Raises FileNotFoundError where there is no such file and ValueError for one that is corrupt, empty, holds
    NaN or Inf, or is too long. Both name the file.
    """
    with _opened(path) as file:
        mono, remarks = _mono(path, file, seconds)
        rate = file.samplerate
    return DecodedAudio(resample(torch.from_numpy(mono), rate, sample_rate), remarks)


def _mono(path: File, file: soundfile.SoundFile, seconds: float | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """(N,) float32 at the file's own rate, and what is odd about it. Errors as of `decode_audio`."""
    _check_header(path, file, seconds)
    samples = _decode(path, file, seconds)
    if len(samples) == 0:
        raise ValueError(f"the audio file {path} is empty: it holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"the audio file {path} holds NaN or Inf samples")
    try:
        samples, scale = to_unit_scale(samples)
    except ValueError as error:
        raise ValueError(f"the audio file {path} {error}") from error
    mono, mixed = mix_down(samples)
    return mono, tuple(remark for remark in (scale, mixed, clipping(mono)) if remark is not None)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """Of an audio file: what its header says, and what its samples are, at its own rate.

    promised: seconds by the header, None where it does not say. peak, level (root mean square): of the mono samples, 1 is full
    scale. digest: of the samples, the same in any lossless format. remarks: as of `DecodedAudio`.
    """

    sample_rate: int
    channels: int
    seconds: float
    promised: float | None
    peak: float
    level: float
    digest: bytes
    remarks: tuple[str, ...]


def inspect_audio(path: File) -> AudioFacts:
    """Decode an audio file and say what it holds. Errors as of `decode_audio`."""
    with _opened(path) as file:
        mono, remarks = _mono(path, file, None)
        rate, promised = file.samplerate, _promised(file)
        return AudioFacts(
            sample_rate=rate,
            channels=file.channels,
            seconds=len(mono) / rate,
            promised=promised,
            peak=float(np.abs(mono).max()),
            level=float(np.sqrt(np.square(mono, dtype=np.float64).mean())),
            digest=hashlib.blake2b(np.round(mono * 32767).astype(np.int32).tobytes(), digest_size=8).digest(),
            remarks=remarks,
        )


def read_header(path: File) -> tuple[int, int, float | None]:
    """(sample rate in Hz, channels, seconds or None where it does not say) by an audio file's header. Errors as of
    `decode_audio`."""
    with _opened(path) as file:
        return file.samplerate, file.channels, _promised(file)


def _promised(file: soundfile.SoundFile) -> float | None:
    return None if file.frames >= UNKNOWN else file.frames / file.samplerate


def duration(path: File) -> float | None:
    """Seconds of audio by the file's header, None where that does not say. Errors as of `decode_audio`."""
    return read_header(path)[2]


@contextmanager
def _opened(path: File) -> Iterator[soundfile.SoundFile]:
    """An audio file to read; what libsndfile raises inside is a ValueError that names the file."""
    path = existing(path, what="audio file")
    try:
        with _Stream(path) as file:
            yield file
    except (soundfile.SoundFileError, RuntimeError, EOFError, TypeError) as error:  # TypeError: the name NAME.raw
        raise ValueError(f"cannot read {path} as audio (wav, flac, ogg or mp3): {error}") from error


def _too_long(path: File, length: str, channels: int) -> ValueError:
    return ValueError(
        f"the audio file {path} is too long: {length} s x {channels} channels, at most {MAX_SECONDS} s "
        f"({MAX_SAMPLES // 1_000_000} million samples of all channels); cut it into pieces"
    )


def _check_header(path: File, file: soundfile.SoundFile, seconds: float | None) -> None:
    frames, channels, rate = file.frames, file.channels, file.samplerate
    if seconds is not None:
        frames = min(frames, round(seconds * rate))
    if frames < UNKNOWN and (frames > MAX_SECONDS * rate or frames * channels > MAX_SAMPLES):
        raise _too_long(path, f"{frames / rate:.0f}", channels)
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"the audio file {path} says {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz are read: its header is damaged"
        )


def _decode(path: File, file: soundfile.SoundFile, seconds: float | None) -> np.ndarray:
    """(N, C) float32: all samples, whatever the header says, up to the limits."""
    channels, rate = file.channels, file.samplerate
    most = min(round((MAX_SECONDS if seconds is None else seconds) * rate), MAX_SAMPLES // channels)
    if file.frames < UNKNOWN:
        return file.read(min(file.frames, most), dtype="float32", always_2d=True)
    blocks, room = [np.empty((0, channels), np.float32)], most
    while room > 0 and len(block := file.read(min(BLOCK, room), dtype="float32", always_2d=True)):
        blocks.append(block)
        room -= len(block)
    if seconds is None and not room and len(file.read(1)):
        raise _too_long(path, f"more than {most / rate:.0f}", channels)
    return np.concatenate(blocks)


def cut_audio(path: File, begin: float, end: float) -> bytes:
    """The content of a wav file that holds seconds [begin, end) of an audio file, its channels as they are, in float32.

    Errors as of `decode_audio`; ValueError also where the recording ends before `begin`, or more than `OVERSHOOT` before `end`.
    """
    with _opened(path) as file:
        _check_header(path, file, end - begin)
        rate, total = file.samplerate, file.frames
        first = round(begin * rate)
        if first >= total or total >= UNKNOWN:
            raise ValueError(f"the audio file {path} has {total / rate:g} s: none from {begin:g} to {end:g}")
        if end > total / rate + OVERSHOOT:
            raise ValueError(f"the audio file {path} has {total / rate:g} s: it ends inside {begin:g} to {end:g}")
        before = min(first, round(RUN_UP * rate))
        file.seek(first - before)
        samples = file.read(round(end * rate) - first + before, dtype="float32", always_2d=True)[before:]
    whole = io.BytesIO()
    soundfile.write(whole, samples, rate, format="WAV", subtype="FLOAT")
    return whole.getvalue()


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


def check_audio_target(path: str | Path) -> tuple[str, str]:
    """Make the folder of a file that will be written; returns its (format, subtype) by the suffix, wav where there is none.

    Raises ValueError for a suffix that is not one of `WRITTEN` and where the path cannot be a file's, and OSError.
    """
    suffix = Path(path).suffix.lower()
    known = {name: format_ for name, format_ in WRITTEN.items() if format_[0] in soundfile.available_formats()}
    if suffix and suffix not in known:
        raise ValueError(f"cannot write {path}: audio is written as {', '.join(known)}; name a file of one of these")
    path = follow(user_path(path))
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise ValueError(
            f"cannot write {path}: a folder, or a file in place of a folder, is in the way; name another file"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return known[suffix or ".wav"]


def wav_bytes(waveform: Tensor, sample_rate: int) -> bytes:
    """The content of a wav file that holds a waveform (N,) as it is, in float32."""
    whole = io.BytesIO()
    soundfile.write(whole, waveform.numpy(), sample_rate, format="WAV", subtype="FLOAT")
    return whole.getvalue()


def through_format(waveform: Tensor, rate: int, container: str, subtype: str, *, loss: float | None = None) -> Tensor:
    """A waveform (N,) float32, [-1, 1], as it is after it was written in a lossy format and read again, in memory; about N
    samples. loss: of formats that offer it, 0 (best) to 1."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), rate, format=container, subtype=subtype, compression_level=loss)
    file.seek(0)
    return torch.from_numpy(soundfile.read(file, dtype="float32")[0])


def write_audio(path: str | Path, waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform (N,) in the format that the suffix names, atomically: nothing half-written remains. Links, devices
    and pipes stay what they are (`atomic_write`).

    Samples are clipped to [-1, 1]. Raises ValueError for a waveform that is not finite or not one-dimensional, for a path
    that cannot be a file's, and for a suffix that is not one of `WRITTEN`.
    """
    path = user_path(path)
    if waveform.dim() != 1 or waveform.numel() == 0:
        raise ValueError(f"cannot write {path}: a waveform (N,) is needed, not the shape {tuple(waveform.shape)}")
    if not bool(torch.isfinite(waveform).all()):
        raise ValueError(f"cannot write {path}: the waveform holds NaN or Inf")
    format_, subtype = check_audio_target(path)
    samples = waveform.detach().float().clamp(-1.0, 1.0).cpu().numpy()
    whole = io.BytesIO()  # libsndfile has no words for a full disk
    try:
        with soundfile.SoundFile(whole, "w", sample_rate, 1, subtype, format=format_) as file:
            for begin in range(0, len(samples), BLOCK):  # libsndfile crashes on minutes of Vorbis at once
                file.write(samples[begin : begin + BLOCK])
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:  # Opus and mp3 know few rates
        raise ValueError(f"cannot write {path} as {format_} of {sample_rate} Hz: {error}") from error
    with atomic_write(path) as temporary:
        temporary.write_bytes(whole.getbuffer())
