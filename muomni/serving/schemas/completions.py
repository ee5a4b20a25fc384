"""`/v1/completions`."""

from typing import Annotated, Literal

from pydantic import Field

from muomni.serving.schemas.chat import SamplingFields
from muomni.serving.schemas.shared import Usage, Wire

Text = Annotated[str, Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """A text to be continued, or several. Lists of token ids are not read."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    max_tokens: Annotated[int, Field(ge=1)] | None = 16
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    suffix: None = None


class CompletionLogprobs(Wire):
    """Of the tokens of an answer. text_offset: characters before each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(Wire):
    """One continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None


class Completion(Wire):
    """All continuations, or a chunk of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
