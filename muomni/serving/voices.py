"""Names of the Talker's voices: "0", "1", ...; the names of OpenAI's voices, which clients
send by default, stand for them in turn."""

from muomni.inference.engine import Engine
from muomni.serving.errors import refused

OPENAI = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar",
)  # fmt: skip


def number_of_voices(engine: Engine) -> int:
    """Voices of the Talker."""
    return engine.require_speaker().talker.num_speakers


def voice_number(name: str, engine: Engine, *, param: str) -> int:
    """A name -> the Talker's voice. Raises ApiError listing the names."""
    count = number_of_voices(engine)
    if name in OPENAI:
        return OPENAI.index(name) % count
    if name.isascii() and name.isdecimal() and len(name) < 6 and int(name) < count:
        return int(name)
    raise refused(
        param, f"unknown voice {name[:60]!r}; there are 0 to {count - 1}, and OpenAI's names ({', '.join(OPENAI)})"
    )
