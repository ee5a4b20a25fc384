"""Names of the Talker's voices: "0", "1", ..., and those of the recordings that the server was given; the names of OpenAI's
voices, which clients send by default, stand for the numbers in turn."""

from collections.abc import Sequence
from pathlib import Path

from muomni.inference.engine import Engine
from muomni.inference.tts.reference import Voice
from muomni.serving.errors import refused

OPENAI = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar",
)  # fmt: skip


def number_of_voices(engine: Engine) -> int:
    """Voices of the Talker."""
    return engine.require_speaker().talker.num_speakers


def voice_names(engine: Engine) -> list[str]:
    """The names of all voices but OpenAI's."""
    return [*map(str, range(number_of_voices(engine))), *engine.require_speaker().named]


def name_voices(engine: Engine, recordings: Sequence[str | Path]) -> None:
    """Take the voices of recordings; each has the name of its file without the suffix. Raises ValueError for a recording without
    a voice to take, and for a name that is taken."""
    speaker = engine.require_speaker()
    for recording in map(Path, recordings):
        name = recording.stem
        if name in OPENAI or name.isdecimal() or name in speaker.named or not 0 < len(name) <= 60:
            raise ValueError(
                f"voices: {recording}: a voice of the name {name!r} is there already, or cannot be: rename the file"
            )
        speaker.named[name] = speaker.recorded_voice(recording)


def voice_named(name: str, engine: Engine, *, param: str) -> Voice:
    """A name -> the Talker's voice. Raises ApiError listing the names."""
    count, named = number_of_voices(engine), engine.require_speaker().named
    if name in named:
        return named[name]
    if name in OPENAI:
        return OPENAI.index(name) % count
    if name.isascii() and name.isdecimal() and len(name) < 6 and int(name) < count:
        return int(name)
    raise refused(
        param,
        f"unknown voice {name[:60]!r}; there are {', '.join([f'0 to {count - 1}', *list(named)[:20]])}, and OpenAI's names "
        f"({', '.join(OPENAI)})",
    )
