"""`/v1/audio/transcriptions`: a recording -> what is said in it, by the recognizer alone."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import PlainTextResponse, Response
from starlette.concurrency import iterate_in_threadpool
from torch import Tensor

from muomni.inference.asr.transcript import Transcript
from muomni.serving import sse
from muomni.serving.errors import ApiError, refused
from muomni.serving.media import read_audio_bytes
from muomni.serving.schemas.audio import (
    DurationUsage,
    TranscriptDelta,
    TranscriptDone,
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
    response_format: Annotated[Literal["json", "text", "srt", "verbose_json", "vtt"], Form()] = "json",
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
    if stream and response_format not in ("json", "text"):
        raise refused("stream", "needs response_format=json")
    raw = await file.read()
    if not raw:
        raise refused("file", "empty")
    waveform = await state.job(read_audio_bytes, raw, state.engine, state.settings, param="file")
    seconds = len(waveform) / state.engine.media.require_hearing().mel.sample_rate
    state.metrics.heard.inc(seconds)
    if stream:
        return sse.stream(_events(state, waveform, seconds), done=False)
    work = state.job(state.engine.transcript, waveform, words=response_format not in ("json", "text"))
    transcript = await while_connected(request, work)
    return _answer(transcript, response_format, granularities or ["segment"], seconds)


def _answer(transcript: Transcript, form: str, granularities: Sequence[str], seconds: float) -> Any:
    usage = DurationUsage(type="duration", seconds=round(seconds, 3))
    match form:
        case "text":
            return PlainTextResponse(f"{transcript.text}\n")
        case "srt":
            return PlainTextResponse(transcript.to_srt())
        case "vtt":
            return Response(transcript.to_vtt(), media_type="text/vtt")
        case "json":
            return Transcription(text=transcript.text, usage=usage)
    whole = transcript.to_dict() | {"duration": round(seconds, 3), "usage": usage}
    for name in ("segment", "word"):
        if name not in granularities:
            del whole[f"{name}s"]
    return VerboseTranscription(**whole)


async def _events(state: ServerState, waveform: Tensor, seconds: float) -> AsyncIterator[str]:
    texts: list[str] = []
    async with state.job_slot():
        with anyio.fail_after(state.settings.request_seconds):
            async for segment in iterate_in_threadpool(state.engine.transcribe_stream(waveform)):
                if segment.text:
                    delta = segment.text if not texts else f" {segment.text}"
                    texts.append(segment.text)
                    yield sse.line(TranscriptDelta(type="transcript.text.delta", delta=delta))
    usage = DurationUsage(type="duration", seconds=round(seconds, 3))
    yield sse.line(TranscriptDone(type="transcript.text.done", text=" ".join(texts), usage=usage))
