"""Events that clients send; OpenAI's names and shapes (general release). Unknown fields are errors that name them."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from muomni.serving.schemas.shared import Ignored, Name, Strict

MAX_ITEMS = 16
RATES = (16_000, 24_000)


class Format(Strict):
    """PCM16, mono, little-endian."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[16_000, 24_000] = 24_000


class TurnDetection(Strict):
    """The server finds the turns."""

    type: Literal["server_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=100, le=10_000)] = 500
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: None = None


class InputTranscription(Strict):
    """Every turn is written down, too."""

    model: Name | None = None
    language: Literal["en"] | None = None
    prompt: Ignored = None


class AudioInput(Strict):
    """turn_detection null: the client commits its turns."""

    format: Format = Format()
    turn_detection: TurnDetection | None = TurnDetection()
    transcription: InputTranscription | None = None
    noise_reduction: None = None


class AudioOutput(Strict):
    """How answers are spoken."""

    format: Format = Format()
    voice: Name = "0"
    speed: Annotated[float, Field(ge=1, le=1)] = 1.0


class Audio(Strict):
    """Both directions."""

    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class Session(Strict):
    """Fields that are left out stay as they are."""

    type: Literal["realtime"] = "realtime"
    model: Name | None = None
    instructions: Annotated[str, Field(max_length=10_000)] = ""
    output_modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)] = ["audio"]
    audio: Audio = Audio()
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] = "inf"
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] = []
    tool_choice: Literal["none", "auto"] = "auto"
    include: Annotated[list[Any], Field(max_length=0)] | None = None
    tracing: None = None
    truncation: Literal["auto"] = "auto"


class Content(Strict):
    """A piece of an item: what its type names."""

    type: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio"]
    text: Annotated[str, Field(max_length=100_000)] | None = None
    audio: str | None = None
    image_url: str | None = None
    transcript: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class Item(Strict):
    """A turn of the conversation."""

    type: Literal["message"]
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Content], Field(min_length=1, max_length=MAX_ITEMS)]
    id: Annotated[str, Field(max_length=64)] | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class Event(Strict):
    """event_id: the client's own, repeated in errors."""

    event_id: Name | None = None


class SessionUpdate(Event):
    """Change the session."""

    type: Literal["session.update"]
    session: dict[str, Any]


class Append(Event):
    """Sound: base64 of PCM16."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(Event):
    """What was appended is a turn."""

    type: Literal["input_audio_buffer.commit"]


class Clear(Event):
    """Forget what was appended."""

    type: Literal["input_audio_buffer.clear"]


class ItemCreate(Event):
    """Add a turn, as text, image or sound."""

    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: Name | None = None


class ItemTruncate(Event):
    """The user has heard an answer only so far."""

    type: Literal["conversation.item.truncate"]
    item_id: Name
    content_index: Literal[0] = 0
    audio_end_ms: Annotated[int, Field(ge=0)]


class ItemDelete(Event):
    """Remove a turn."""

    type: Literal["conversation.item.delete"]
    item_id: Name


class ItemRetrieve(Event):
    """Show a turn."""

    type: Literal["conversation.item.retrieve"]
    item_id: Name


class ResponseOptions(Strict):
    """Of one answer, in place of the session's."""

    output_modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)] | None = None
    instructions: Annotated[str, Field(max_length=10_000)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] | Literal["inf"] | None = None
    conversation: Literal["auto"] | None = None
    metadata: Ignored = None


class ResponseCreate(Event):
    """Answer now."""

    type: Literal["response.create"]
    response: ResponseOptions = ResponseOptions()


class ResponseCancel(Event):
    """Stop the answer."""

    type: Literal["response.cancel"]
    response_id: Name | None = None


ClientEvent = Annotated[
    SessionUpdate
    | Append
    | Commit
    | Clear
    | ItemCreate
    | ItemTruncate
    | ItemDelete
    | ItemRetrieve
    | ResponseCreate
    | ResponseCancel,
    Field(discriminator="type"),
]
CLIENT_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(ClientEvent)


def changed(session: Session, changes: dict[str, Any]) -> Session:
    """The session with its named fields replaced, tables field by field. Raises pydantic's ValidationError."""

    def merge(old: Any, new: Any) -> Any:
        if isinstance(old, dict) and isinstance(new, dict):
            return old | {name: merge(old.get(name), value) for name, value in new.items()}
        return new

    return Session.model_validate(merge(session.model_dump(), changes))
