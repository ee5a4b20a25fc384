"""`/v1/embeddings`: texts and images in one space, by the contrastive towers."""

import base64
from typing import Annotated

import torch
from fastapi import APIRouter, Depends, Request

from muomni.serving.errors import ApiError, refused
from muomni.serving.media import read_image_url
from muomni.serving.schemas.embeddings import (
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    ImageInput,
    TextInput,
)
from muomni.serving.schemas.shared import errors
from muomni.serving.state import ServerState, client_of, state_of
from muomni.serving.strict_route import StrictRoute, while_connected

router = APIRouter(route_class=StrictRoute, tags=["embeddings"])


@router.post("/v1/embeddings", response_model=EmbeddingList, responses=errors(404, 429))
async def create_embedding(
    body: EmbeddingRequest, request: Request, state: Annotated[ServerState, Depends(state_of)]
) -> EmbeddingList:
    """A vector for each input."""
    model = state.check_model(body.model)
    if state.embedder is None:
        raise ApiError(
            400, "this server has no contrastive towers: embeddings=EXPORT of stage=vision adds them", param="model"
        )
    width = state.embedder.dimensions
    if body.dimensions not in (None, width):
        raise refused("dimensions", f"this model's vectors have {width} numbers")
    inputs = [_text_or_url(each) for each in ([body.input] if isinstance(body.input, str) else body.input)]
    images = sum(url is not None for _, url in inputs)
    if images > state.settings.max_images:
        raise refused("input", f"{images} images; at most {state.settings.max_images} are taken")
    characters = sum(len(text) for text, _ in inputs)
    if characters > state.settings.max_characters:
        raise refused("input", f"{characters} characters; at most {state.settings.max_characters} are taken")
    work = state.job(_embed, body, inputs, state, model, client=client_of(request))
    return await while_connected(request, work)


def _text_or_url(given: str | TextInput | ImageInput) -> tuple[str, str | None]:
    """A text, or the data: URI of an image."""
    text = given if isinstance(given, str) else "" if isinstance(given, ImageInput) else given.text
    url = given.image if isinstance(given, ImageInput) else text if text[:11].lower() == "data:image/" else None
    return (text, None) if url is None else ("", url)


def _embed(
    body: EmbeddingRequest, inputs: list[tuple[str, str | None]], state: ServerState, model: str
) -> EmbeddingList:
    vectors, tokens = torch.zeros(len(inputs), state.embedder.dimensions), 0
    for index, (text, url) in enumerate(inputs):
        param = "input" if isinstance(body.input, str) else f"input[{index}]"
        try:
            if url is not None:
                vectors[index] = state.embedder.images([read_image_url(url, state.settings, param=param)])[0]
                tokens += 1
            else:
                (vectors[index],), (count,) = state.embedder.texts([text])
                tokens += count
        except ValueError as error:
            raise refused(param, str(error)) from error
    return EmbeddingList(
        data=[
            Embedding(
                index=index,
                embedding=base64.b64encode(row.numpy().tobytes()).decode()
                if body.encoding_format == "base64"
                else row.tolist(),
            )
            for index, row in enumerate(vectors)
        ],
        model=model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )
