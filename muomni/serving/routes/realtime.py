"""`/v1/realtime`."""

from fastapi import APIRouter
from starlette.websockets import WebSocket

from muomni.serving.errors import ApiError
from muomni.serving.realtime.session import RealtimeSession
from muomni.serving.security import POLICY_CLOSED, TRY_LATER
from muomni.serving.state import ServerState

router = APIRouter()
PROTOCOL = "realtime"


@router.websocket("/v1/realtime")
async def realtime(socket: WebSocket) -> None:
    """A spoken conversation."""
    state: ServerState = socket.app.state.muomni
    model = socket.query_params.get("model") or state.settings.model
    try:
        state.check_model(model)
        state.require_scheduler()
        if state.engine.media.hearing is None:
            raise ApiError(400, "this model takes no audio")
    except ApiError as error:
        await socket.close(TRY_LATER if error.status == 503 else POLICY_CLOSED, error.message[:120])
        return
    if state.sessions >= state.settings.max_sessions:
        await socket.close(TRY_LATER, "too many sessions")
        return
    state.sessions += 1  # before the next await: others are at the door
    try:
        await socket.accept(subprotocol=PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
        await RealtimeSession(socket, state, model=model, client=socket.client.host if socket.client else "").run()
    finally:
        state.sessions -= 1
