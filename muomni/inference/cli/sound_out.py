"""Where the sound of audio_out= goes: a file, written as a whole at the end, or a stream, written while it is spoken.

Legend: N samples.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from muomni.frontends.audio_io import write_audio
from muomni.inference.decoding.timings import Timings
from muomni.inference.engine import Engine
from muomni.inference.tts.options import NAMES, SpeechOptions
from muomni.user_path import user_path


class Encoder(Protocol):
    """Samples -> bytes of a format, block by block."""

    def push(self, samples: Tensor) -> bytes: ...

    def close(self) -> bytes: ...


class SoundOut(Protocol):
    """Takes chunks (N) of one speech. target: what it is called in messages."""

    target: str

    def write(self, chunk: Tensor) -> None:
        """Raises OSError if it cannot be written: a closed pipe, a device."""
        ...

    def close(self) -> None:
        """The end. Raises ValueError where there was nothing."""
        ...


class FileSound:
    """A file of the format that its suffix names."""

    def __init__(self, target: str, sample_rate: int) -> None:
        self.target, self.sample_rate, self.chunks = target, sample_rate, list[Tensor]()

    def write(self, chunk: Tensor) -> None:
        self.chunks.append(chunk)

    def close(self) -> None:
        if not self.chunks:
            raise ValueError(f"nothing in the answer can be spoken: {self.target} is not written")
        write_audio(self.target, torch.cat(self.chunks), self.sample_rate)


class StreamSound:
    """A stream, by an encoder."""

    target = "audio_out=-"

    def __init__(self, stream: BinaryIO, encoder: Encoder) -> None:
        self.stream, self.encoder, self.begun = stream, encoder, False

    def write(self, chunk: Tensor) -> None:
        self.begun = True
        self.stream.write(self.encoder.push(chunk))
        self.stream.flush()

    def close(self) -> None:
        if not self.begun:
            raise ValueError("nothing in the answer can be spoken: audio_out=- is empty")
        self.stream.write(self.encoder.close())
        self.stream.flush()


def spoken_pieces(
    engine: Engine, pieces: Iterator[str], out: SoundOut, *, failed: Callable[[str], None], **how: Any
) -> Iterator[str]:
    """The pieces of a text, which is spoken into `out` meanwhile. how: options of `Engine.speak_along`.

    Where `out` fails, `failed` is called with a line that says so, and the rest of the text comes without sound.
    """
    for item in engine.speak_along(pieces, **how):
        if isinstance(item, str):
            yield item
            continue
        try:
            out.write(item)
        except OSError as error:
            failed(f"{out.target}: {error.strerror or error}; the answer goes on without sound")
            break
    yield from pieces  # none are left unless it failed


def speak(engine: Engine, cfg: Mapping[str, Any], text: str, out: SoundOut) -> Timings:
    """Speak a text that is there; into a file all its sentences at once."""
    if isinstance(out, FileSound) and cfg["look_ahead"] is None:
        (spoken,) = engine.speak([text], voices=[cfg["voice"]], **{name: cfg[name] for name in NAMES})
        out.write(spoken.waveform)
        return spoken.timings
    timings = Timings()
    for chunk in engine.generate_speech_stream(text, **voice_options(cfg), timings=timings):
        out.write(chunk)
    return timings


def voice_given(voice: Any) -> Any:
    """The option voice=, as given -> a number, or the path of a recording. Raises ValueError where it is empty."""
    if not isinstance(voice, str):
        return voice
    if not voice.strip():
        raise ValueError("voice= is empty: a speaker's number, or a recording of somebody")
    return int(voice) if re.fullmatch(r"[+-]?[0-9]{1,18}", voice) else str(user_path(voice))


def checked_voice(engine: Engine, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The voice of the options, read. Raises MuomniError for what is wrong with how a text is spoken, before there is one."""
    speaker = engine.require_speaker()
    SpeechOptions(**{name: cfg[name] for name in NAMES}).check(speaker.talker)
    return {"voice": speaker.voice(cfg["voice"])}


def voice_options(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """How a text is spoken. That the limit on frames cut it is said with the timings."""
    names = ("voice", "look_ahead", *NAMES)
    return {name: cfg[name] for name in names} | {"ended": lambda _: None}
