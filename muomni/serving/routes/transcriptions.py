"""`/v1/audio/transcriptions`: a recording -> what is said in it, by the recognizer alone."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import PlainTextResponse

from muomni.serving.errors import ApiError, refused
from muomni.serving.media import read_audio_bytes
from muomni.serving.schemas.audio import (
    DurationUsage,
    Transcription,
    VerboseTranscription,
)
from muomni.serving.schemas.shared import errors
from muomni.serving.state import ServerState, state_of
from muomni.serving.strict_route import FormRoute, while_connected

router = APIRouter(route_class=FormRoute, tags=["audio"])
LANGUAGES = ("en", "english")
FIELDS = {
    "file", "model", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]",
    "timestamp_granularities", "stream", "chunking_strategy",
}  # fmt: skip


@router.post(
    "/v1/audio/transcriptions",
    response_model=Transcription | VerboseTranscription,
    response_model_exclude_unset=True,
    responses=errors(404, 429)
    | {
        200: {
            "content": {
                kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt", "text/event-stream")
            }
        }
    },
)
async def create_transcription(
    request: Request,
    state: Annotated[ServerState, Depends(state_of)],
    file: Annotated[UploadFile, File(description="wav, flac, mp3, ogg or opus")],
    model: Annotated[str, Form(max_length=200)],
    language: Annotated[str | None, Form(max_length=40)] = None,
    prompt: Annotated[str | None, Form(max_length=10_000, description="Taken and ignored.")] = None,
    response_format: Annotated[Literal["json", "text"], Form()] = "json",
    temperature: Annotated[
        float | None, Form(ge=0, le=1, allow_inf_nan=False, description="Taken and ignored.")
    ] = None,
    granularities: Annotated[
        list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]", max_length=2)
    ] = None,
    stream: Annotated[bool, Form()] = False,
    chunking_strategy: Annotated[Literal["auto"] | None, Form(description="Taken and ignored.")] = None,
) -> Any:
    """A transcript in one of OpenAI's formats, or streamed segment by segment."""
    state.check_model(model)
    state.check_running()
    if unknown := [name for name in await request.form() if name not in FIELDS]:
        raise refused(unknown[0][:60], "this server does not know this field")
    if state.engine.media.hearing is None or "audio" not in state.engine.modules:
        raise ApiError(400, "this model has no audio encoder: it writes no transcripts", param="model")
    if language is not None and language.lower() not in LANGUAGES:
        raise refused("language", f"this model writes English, not {language[:40]!r}")
    if granularities is not None and response_format != "verbose_json":
        raise refused("timestamp_granularities", "needs response_format=verbose_json")
    if stream:
        raise refused("stream", "transcripts come whole")
    raw = await file.read()
    if not raw:
        raise refused("file", "empty")
    waveform = await state.job(read_audio_bytes, raw, state.engine, state.settings, param="file")
    seconds = len(waveform) / state.engine.media.require_hearing().mel.sample_rate
    state.metrics.heard.inc(seconds)
    text = await while_connected(request, state.job(state.engine.transcribe, waveform))
    usage = DurationUsage(type="duration", seconds=round(seconds, 3))
    return PlainTextResponse(f"{text}\n") if response_format == "text" else Transcription(text=text, usage=usage)
