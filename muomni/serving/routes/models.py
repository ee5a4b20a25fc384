"""`/v1/models`: the one model of this server under its names."""

from typing import Annotated

from fastapi import APIRouter, Depends

from muomni.serving.schemas.shared import ModelCard, ModelList, errors
from muomni.serving.settings import ANY_NAME
from muomni.serving.state import ServerState, state_of

router = APIRouter(tags=["models"])


@router.get("/v1/models", response_model=ModelList, responses=errors())
async def list_models(state: Annotated[ServerState, Depends(state_of)]) -> ModelList:
    """All names that requests may use."""
    names = [state.settings.model, *(name for name in state.settings.names if name != ANY_NAME)]
    return ModelList(data=[_card(name, state) for name in dict.fromkeys(names)])


@router.get("/v1/models/{model:path}", response_model=ModelCard, responses=errors(404))
async def retrieve_model(model: str, state: Annotated[ServerState, Depends(state_of)]) -> ModelCard:
    """One of them."""
    return _card(state.check_model(model), state)


def _card(name: str, state: ServerState) -> ModelCard:
    return ModelCard(id=name, created=int(state.started))
