"""`/v1/audio/speech`, `/v1/audio/transcriptions` and `/v1/audio/voices`."""

from typing import Annotated, Literal

from pydantic import Field

from muomni.serving.schemas.chat import VoiceId
from muomni.serving.schemas.shared import Ignored, Name, Strict, Wire


class SpeechRequest(Strict):
    """A text to be spoken."""

    model: Name
    input: Annotated[str, Field(min_length=1, max_length=20_000)]
    voice: Name | VoiceId
    response_format: Literal["wav", "mp3", "flac", "opus", "pcm"] = "mp3"
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: None = None
    user: Ignored = None


class SpeechUsage(Wire):
    """input_tokens: characters spoken; output_tokens: frames of codes."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class SpeechDelta(Wire):
    """A piece of the file, base64."""

    type: Literal["speech.audio.delta"] = "speech.audio.delta"
    audio: str


class SpeechEnd(Wire):
    """The end of the file."""

    type: Literal["speech.audio.done"] = "speech.audio.done"
    usage: SpeechUsage


class Voice(Wire):
    """A voice of the Talker."""

    id: str
    object: Literal["voice"] = "voice"


class VoiceList(Wire):
    """All voices."""

    object: Literal["list"] = "list"
    data: list[Voice]


class TranscriptWord(Wire):
    """confidence: 0 to 1."""

    word: str
    start: float
    end: float
    confidence: float


class TranscriptSegment(Wire):
    """A stretch of speech."""

    id: int
    start: float
    end: float
    text: str


class DurationUsage(Wire):
    """Seconds of audio."""

    type: Literal["duration"] = "duration"
    seconds: float


class Transcription(Wire):
    """response_format json."""

    text: str
    usage: DurationUsage


class VerboseTranscription(Wire):
    """response_format verbose_json."""

    task: Literal["transcribe"] = "transcribe"
    language: str
    duration: float
    text: str
    segments: list[TranscriptSegment] | None = None
    words: list[TranscriptWord] | None = None
    usage: DurationUsage


class TranscriptDelta(Wire):
    """More of a streamed transcript."""

    type: Literal["transcript.text.delta"] = "transcript.text.delta"
    delta: str


class TranscriptDone(Wire):
    """The whole streamed transcript."""

    type: Literal["transcript.text.done"] = "transcript.text.done"
    text: str
    usage: DurationUsage
