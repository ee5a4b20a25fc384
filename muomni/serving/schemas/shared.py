"""What the schemas of all routes share. Field names and shapes are OpenAI's; an unknown field is an error that names it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(max_length=200)]
Ignored = Annotated[Any, Field(default=None, description="Taken and ignored: it changes nothing about an answer.")]


class Strict(BaseModel):
    """A request: no unknown fields, no NaN, no numbers in place of strings."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, protected_namespaces=())


class Wire(BaseModel):
    """An answer."""

    model_config = ConfigDict(protected_namespaces=(), extra="forbid")


class ErrorDetail(Wire):
    """param: the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Wire):
    """Every answer other than 200."""

    error: ErrorDetail


class PromptDetails(Wire):
    """cached_tokens: of the prompt, taken over from an earlier request with the same beginning."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Wire):
    """Of an answer."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0


class Usage(Wire):
    """Token counts of a request, all choices together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()


class StreamOptions(Strict):
    """include_usage: a last chunk with the token counts."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ModelCard(Wire):
    """A model that requests may name."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "muomni"


class ModelList(Wire):
    """All models of this server."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


#: A streamed answer in a route's `responses`: its events (`itemSchema` of OpenAPI 3.2), data: a JSON object or [DONE].
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "itemSchema": {
            "type": "object",
            "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
            "required": ["data"],
        }
    }
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route."""
    return {status: {"model": ErrorBody} for status in (400, 401, 403, 408, 413, 415, 421, 429, 500, 503, *statuses)}
