"""`/v1/chat/completions`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from muomni.serving.schemas.shared import Ignored, Name, StreamOptions, Strict, Usage, Wire

AudioFormat = Literal["wav", "mp3", "flac", "opus", "pcm16"]
Probability = Annotated[float, Field(ge=0, le=1)]
PositiveProbability = Annotated[float, Field(gt=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)]


class TextItem(Strict):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    """url: data:image/...;base64,... only; nothing is fetched."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImageItem(Strict):
    """An image of a user's message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Strict):
    """data: base64."""

    data: str
    format: Literal["wav", "mp3", "flac", "opus", "ogg"]


class AudioItem(Strict):
    """A recording of a user's message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


Item = Annotated[TextItem | ImageItem | AudioItem, Field(discriminator="type")]


class SystemMessage(Strict):
    """Instructions, before the conversation."""

    role: Literal["system"]
    content: str | list[TextItem]
    name: Ignored = None


class DeveloperMessage(Strict):
    """The same by its newer name."""

    role: Literal["developer"]
    content: str | list[TextItem]
    name: Ignored = None


class UserMessage(Strict):
    """A turn of the user."""

    role: Literal["user"]
    content: str | Annotated[list[Item], Field(min_length=1, max_length=64)]
    name: Ignored = None


class AudioReference(Strict):
    """The id of an earlier answer's audio."""

    id: Name


class AssistantMessage(Strict):
    """An earlier answer."""

    role: Literal["assistant"]
    content: str | list[TextItem] | None = None
    audio: AudioReference | None = None
    refusal: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    annotations: Ignored = None
    name: Ignored = None


Message = Annotated[SystemMessage | DeveloperMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class JsonSchema(Strict):
    """A schema that the answer follows, token by token."""

    name: Name
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class TextFormat(Strict):
    """Free text."""

    type: Literal["text"]


class SchemaFormat(Strict):
    """JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class ObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


ResponseFormat = Annotated[TextFormat | SchemaFormat | ObjectFormat, Field(discriminator="type")]


class VoiceId(Strict):
    """A voice by its id."""

    id: Name


class AudioOut(Strict):
    """How the answer is spoken."""

    voice: Name | VoiceId
    format: AudioFormat


class SamplingFields(Strict):
    """What chat and plain completions have in common. Fields left out have the server's defaults (conf/serve.yaml)."""

    model: Name
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=1024),
        ]
        | None
    ) = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[str, Field(min_length=1, max_length=200)] | Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: PositiveProbability | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    user: Ignored = None


class ChatRequest(SamplingFields):
    """A conversation to be answered."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=512)]
    audio: AudioOut | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=2)] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Any], Field(max_length=0, description="This model calls no tools.")] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Ignored = None
    service_tier: Literal["auto", "default"] | None = None
    store: Ignored = None
    metadata: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    prompt_cache_retention: Ignored = None
    prediction: Ignored = None
    verbosity: Ignored = None


class TopLogprob(Wire):
    """A candidate for a token."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(TopLogprob):
    """A token of the answer, and the most likely ones in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Wire):
    """Of an answer's tokens."""

    content: list[ChatLogprob] | None
    refusal: None = None


class AnswerAudio(Wire):
    """The spoken answer. data: base64 of the file."""

    id: str
    expires_at: int
    data: str
    transcript: str


class AnswerMessage(Wire):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    audio: AnswerAudio | None = None


class Choice(Wire):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Wire):
    """All answers to a request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None
    service_tier: str | None = None


class AudioDelta(Wire):
    """Of a spoken answer, while it is spoken: base64 of PCM16."""

    id: str | None = None
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class Delta(Wire):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    audio: AudioDelta | None = None


class ChunkChoice(Wire):
    """A chunk of one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(Wire):
    """A line of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
