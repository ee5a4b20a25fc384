"""Waveform chunks -> the bytes of an audio format, while the Talker speaks.

    pcm         samples of 16 bits, little-endian, without a header
    wav         the same with a header of unknown length
    flac        by libsndfile; its header says that the length is unknown
    mp3         by libsndfile, without its first frame: a table of the length, which is not known
    opus        in Ogg, by libsndfile, which writes pages of about a second

A chunk is stretched in time (`speed`), resampled, and encoded; what comes out does not depend on where chunks are cut. aac is
refused: no library of ours writes it.

Shapes: N samples.
"""

import io
import struct
from typing import Any, Protocol

import soundfile
import torch
from torch import Tensor

from muomni.frontends.resampler import Resampler
from muomni.inference.errors import InvalidOption
from muomni.serving.time_stretch import TimeStretch
from muomni.short_repr import shown

COMPRESSED = {
    "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS"),
}  # fmt: skip
FORMATS = ("wav", "pcm", *COMPRESSED)
MIN_SPEED, MAX_SPEED = 0.25, 4.0
UNKNOWN_LENGTH = 0xFFFFFFFF


class Writer(Protocol):
    """Samples at the target rate, clipped to [-1, 1] -> bytes."""

    def write(self, samples: Tensor) -> bytes:
        """The bytes that these samples (N) complete."""
        ...

    def close(self) -> bytes:
        """The rest."""
        ...


class PcmWriter:
    """16 bits, little-endian; header: before them."""

    def __init__(self, header: bytes = b"") -> None:
        self.header = header

    def write(self, samples: Tensor) -> bytes:
        """See `Writer`."""
        header, self.header = self.header, b""
        return header + (samples * 32767.0).round().to(torch.int16).numpy().astype("<i2").tobytes()

    def close(self) -> bytes:
        """The header, if nothing came."""
        header, self.header = self.header, b""
        return header


class CompressedWriter:
    """A format of libsndfile. What it writes again at the end, in place of what was sent, is left out: lengths in headers."""

    def __init__(self, form: str, rate: int) -> None:
        self.has_table = form == "mp3"
        container, subtype = COMPRESSED[form]
        self.whole, self.sent = io.BytesIO(), 0
        # Players take the rate of the first frame for that of all; the mode counts with a level only. 80 kbit/s at 24 kHz.
        constant: dict[str, Any] = {"bitrate_mode": "CONSTANT", "compression_level": 0.5} if form == "mp3" else {}
        self.file = soundfile.SoundFile(self.whole, "w", rate, 1, subtype, format=container, **constant)

    def write(self, samples: Tensor) -> bytes:
        """See `Writer`."""
        self.file.write(samples.numpy())
        return self._new()

    def close(self) -> bytes:
        """See `Writer`."""
        self.file.close()
        return self._new()

    def _new(self) -> bytes:
        data = self.whole.getbuffer()[self.sent :].tobytes()
        if self.has_table and data:  # a frame of zeros until the end: players would take it for an empty file's
            begin = data.find(data[:2], 4)  # the next frame's mark
            if begin < 0:
                return b""
            self.has_table, self.sent, data = False, begin, data[begin:]
        self.sent += len(data)
        return data


class AudioEncoder:
    """Chunks (N) of one waveform in, bytes out."""

    def __init__(self, writer: Writer, *, resampler: Resampler | None, stretch: TimeStretch | None) -> None:
        self.writer, self.resampler, self.stretch = writer, resampler, stretch

    def push(self, chunk: Tensor) -> bytes:
        """Append samples; returns the bytes that are complete, perhaps none."""
        chunk = chunk.detach().float().cpu()
        chunk = chunk if self.stretch is None else self.stretch.push(chunk)
        chunk = chunk if self.resampler is None else self.resampler.push(chunk)
        return self.writer.write(chunk.clamp(-1.0, 1.0)) if len(chunk) else b""

    def close(self) -> bytes:
        """The rest."""
        rest = torch.zeros(0) if self.stretch is None else self.stretch.close()
        if self.resampler is not None:
            rest = torch.cat([self.resampler.push(rest), self.resampler.close()])
        return (self.writer.write(rest.clamp(-1.0, 1.0)) if len(rest) else b"") + self.writer.close()


def make_encoder(form: str, rate: int, target: int | None = None, *, speed: float = 1.0) -> AudioEncoder:
    """An encoder of a format of `FORMATS` for waveforms of `rate` Hz. target: the rate of the audio, Hz; None: the same. speed:
    0.25 to 4 times as fast, at the same pitch. Raises InvalidOption."""
    target = rate if target is None else target
    if form not in FORMATS:
        raise InvalidOption(
            f"response_format={shown(form, str)}: audio is written as {', '.join(FORMATS)}", param="response_format"
        )
    number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if not (number and MIN_SPEED <= speed <= MAX_SPEED):
        raise InvalidOption(f"speed={shown(speed, str)}: a number from {MIN_SPEED} to {MAX_SPEED}", param="speed")
    writer: Writer
    if form in COMPRESSED:
        try:
            writer = CompressedWriter(form, target)
        except (soundfile.SoundFileError, RuntimeError, ValueError) as error:  # Opus and mp3 know few rates
            raise InvalidOption(f"cannot write {form} of {target} Hz: {error}", param="response_format") from error
    else:
        writer = PcmWriter(wav_header(target) if form == "wav" else b"")
    return AudioEncoder(
        writer,
        resampler=None if rate == target else Resampler(rate, target),
        stretch=None if speed == 1 else TimeStretch(speed, rate),
    )


def wav_header(rate: int) -> bytes:
    """The header of a mono wav of 16 bits whose length is not known yet."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN_LENGTH, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN_LENGTH)
