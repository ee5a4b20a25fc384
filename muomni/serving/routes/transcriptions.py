"""`/v1/audio/transcriptions`: a recording -> what is said in it, by the recognizer alone."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import PlainTextResponse, Response
from torch import Tensor

from muomni.inference.asr.transcript import Transcript, TranscriptSegment
from muomni.serving import sse
from muomni.serving.errors import ApiError, refused
from muomni.serving.events import Events
from muomni.serving.media import read_audio_bytes
from muomni.serving.schemas.audio import (
    DurationUsage,
    TranscriptDelta,
    TranscriptDone,
    Transcription,
    VerboseTranscription,
)
from muomni.serving.schemas.shared import EVENT_STREAM, errors
from muomni.serving.state import ServerState, client_of, state_of
from muomni.serving.strict_route import FormRoute, while_connected

router = APIRouter(route_class=FormRoute, tags=["audio"])
LANGUAGES = ("en", "english")
FIELDS = {
    "file", "model", "language", "prompt", "response_format", "temperature", "timestamp_granularities[]", "stream",
    "chunking_strategy",
}  # fmt: skip


@router.post(
    "/v1/audio/transcriptions",
    response_model=Transcription | VerboseTranscription,
    response_model_exclude_unset=True,
    responses=errors(404, 429)
    | {
        200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt")} | EVENT_STREAM},
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
    given = [name for name, _ in (await request.form()).multi_items()]
    if unknown := [name for name in given if name not in FIELDS]:
        raise refused(unknown[0][:60], "this server does not know this field")
    if twice := [name for name in given if given.count(name) > 1 and not name.endswith("[]")]:
        raise refused(twice[0], "this field is given twice")
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
    client = client_of(request)
    waveform = await state.job(read_audio_bytes, raw, state.engine, state.settings, param="file", client=client)
    seconds = len(waveform) / state.engine.media.require_hearing().mel.sample_rate
    state.metrics.heard.inc(seconds)
    if stream:
        segments = Segments(state, waveform)
        await while_connected(request, state.jobs.start(segments.write, client=client))
        return sse.stream(_lines(segments, seconds), cancel=segments.events.cancel, done=False)
    words = response_format not in ("json", "text")
    work = state.job(state.engine.transcript, waveform, words=words, client=client, long=True)
    transcript = await while_connected(request, work)
    return _answer(transcript, response_format, granularities or ["segment"], seconds)


class Written:
    """The last event of `Segments`."""


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


class Segments:
    """The segments of a recording, written in a thread and kept until they are sent: a slow client delays nobody."""

    def __init__(self, state: ServerState, waveform: Tensor) -> None:
        self.engine, self.waveform = state.engine, waveform
        self.events = Events(final=Written, deadline=state.deadline())

    def write(self) -> None:
        """In a thread, until the end or until nobody needs it any more."""
        try:
            for segment in self.engine.transcribe_stream(self.waveform):
                if self.events.cancelled:
                    return
                self.events.emit(segment)
            self.events.emit(Written())
        except Exception as error:  # for the client
            self.events.emit(error)


async def _lines(segments: Segments, seconds: float) -> AsyncGenerator[str]:
    texts: list[str] = []
    async with aclosing(aiter(segments.events)) as events:
        async for segment in events:
            if isinstance(segment, TranscriptSegment) and segment.text:
                delta = segment.text if not texts else f" {segment.text}"
                texts.append(segment.text)
                yield sse.line(TranscriptDelta(type="transcript.text.delta", delta=delta))
    usage = DurationUsage(type="duration", seconds=round(seconds, 3))
    yield sse.line(TranscriptDone(type="transcript.text.done", text=" ".join(texts), usage=usage))
