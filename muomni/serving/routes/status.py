"""`/health` for whoever starts and watches the server, `/metrics` for Prometheus."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from muomni.serving.schemas.shared import Wire, errors
from muomni.serving.state import ServerState, state_of

router = APIRouter(tags=["status"])


class Health(Wire):
    """ok: takes requests. modules: of the export."""

    status: Literal["ok", "stopping"]
    model: str
    modules: list[str]


@router.get(
    "/health", response_model=Health, responses={503: {"model": Health}, 421: errors()[421], 403: errors()[403]}
)
async def health(state: Annotated[ServerState, Depends(state_of)]) -> Any:
    """200 while the server takes requests, 503 while it stops."""
    body = Health(
        status="stopping" if state.draining else "ok", model=state.settings.model, modules=sorted(state.engine.modules)
    )
    return JSONResponse(body.model_dump(), status_code=503 if state.draining else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses=errors() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(state: Annotated[ServerState, Depends(state_of)]) -> Response:
    """Counters and gauges."""
    return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
