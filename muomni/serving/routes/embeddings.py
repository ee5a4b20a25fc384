"""`/v1/embeddings`: texts and images in one space, by the contrastive towers."""

import base64
from typing import Annotated

import torch
from fastapi import APIRouter, Depends

from muomni.serving.errors import ApiError, refused
from muomni.serving.media import read_image_url
from muomni.serving.schemas.embeddings import (
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    ImageInput,
)
from muomni.serving.schemas.shared import errors
from muomni.serving.state import ServerState, state_of
from muomni.serving.strict_route import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["embeddings"])


@router.post("/v1/embeddings", response_model=EmbeddingList, responses=errors(404, 429))
async def create_embedding(body: EmbeddingRequest, state: Annotated[ServerState, Depends(state_of)]) -> EmbeddingList:
    """A vector for each input."""
    model = state.check_model(body.model)
    if state.embedder is None:
        raise ApiError(
            400, "this server has no contrastive towers: embeddings=EXPORT of stage=vision adds them", param="model"
        )
    width = state.embedder.dimensions
    if body.dimensions not in (None, width):
        raise refused("dimensions", f"this model's vectors have {width} numbers")
    return await state.job(_embed, body, state, model)


def _embed(body: EmbeddingRequest, state: ServerState, model: str) -> EmbeddingList:
    inputs = [body.input] if isinstance(body.input, str) else body.input
    vectors, tokens = torch.zeros(len(inputs), state.embedder.dimensions), 0
    for index, each in enumerate(inputs):
        param = "input" if isinstance(body.input, str) else f"input[{index}]"
        text = each if isinstance(each, str) else "" if isinstance(each, ImageInput) else each.text
        url = each.image if isinstance(each, ImageInput) else text if text[:11].lower() == "data:image/" else None
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
