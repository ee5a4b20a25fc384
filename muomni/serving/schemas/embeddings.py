"""`/v1/embeddings`."""

from typing import Annotated, Literal

from pydantic import Field

from muomni.serving.schemas.shared import Ignored, Name, Strict, Wire

Text = Annotated[str, Field(min_length=1)]


class ImageInput(Strict):
    """image: data:image/...;base64,..."""

    image: Text


class TextInput(Strict):
    """The same as the text alone."""

    text: Text


class EmbeddingRequest(Strict):
    """Texts and images (data: URIs, as strings or {"image": URI}). Lists of token ids are not read."""

    model: Name
    input: Text | Annotated[list[Text | TextInput | ImageInput], Field(min_length=1, max_length=256)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: Ignored = None


class Embedding(Wire):
    """A unit vector: numbers, or base64 of their float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Wire):
    """Tokens of the texts; an image counts as one."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Wire):
    """In the order of the input."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
