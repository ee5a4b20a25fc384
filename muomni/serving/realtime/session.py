"""A realtime session: events of one client in, events of the server out.

One task reads; an answer runs as another, which a new turn of the speaker cancels (barge-in). Sound is transcribed and answered
by the same schedulers as everyone's requests.
"""

import asyncio
import uuid
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from muomni.inference.asr.turns import Turn as Border
from muomni.serving.errors import ApiError, api_error, refused, validation_error
from muomni.serving.realtime import schema
from muomni.serving.realtime.conversation import Turn, Turns, decode_pcm16, for_encoder, read_item
from muomni.serving.realtime.input_audio import InputAudio
from muomni.serving.realtime.live_transcript import TRANSCRIPTION, LiveTranscript, transcribes_live
from muomni.serving.realtime.response import Response
from muomni.serving.state import ServerState
from muomni.serving.strict_route import read_json
from muomni.serving.voices import voice_named

SHORTEST = 0.1  # seconds of a turn, as OpenAI has it


class RealtimeSession:
    """One WebSocket, already accepted."""

    def __init__(self, socket: WebSocket, state: ServerState, *, model: str, client: str) -> None:
        self.socket, self.state, self.client = socket, state, client
        self.id = f"sess_{uuid.uuid4().hex[:24]}"
        self.session = schema.Session(model=model)
        if state.speech is None:
            self.session.output_modalities = ["text"]
        self.turns = Turns()
        self.input = self._new_input()
        self.started: Border | None = None
        self.next_item: str | None = None  # of the turn in progress
        self.live: LiveTranscript | None = None  # its transcript
        self.response: Response | None = None
        self.answer: asyncio.Task[None] | None = None  # its `run`
        self.jobs: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client goes."""
        await self.send("session.created", session=self._described())
        try:
            while (text := await self._read()) is not None:
                await self._receive(text)
        finally:
            self._drop_live()
            for task in [*self.jobs, *([self.answer] if self.answer else [])]:
                task.cancel()
            await asyncio.gather(*self.jobs, *([self.answer] if self.answer else []), return_exceptions=True)

    async def _read(self) -> str | None:
        """The next event; None at the end."""
        try:
            return await self.socket.receive_text()
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: it was closed from here
            return None
        except KeyError:  # bytes: refused as what is no JSON
            return ""

    async def send(self, name: str, **fields: Any) -> None:
        """An event; dropped if the client has gone."""
        with suppress(WebSocketDisconnect, RuntimeError):
            await self.socket.send_json({"type": name, "event_id": f"event_{uuid.uuid4().hex[:20]}", **fields})

    async def _receive(self, text: str) -> None:
        name = value = None
        try:
            value = read_json(text.encode("utf-8", errors="surrogatepass"))
            name = value.get("event_id") if isinstance(value, dict) else None
            await self._handle(schema.CLIENT_EVENT.validate_python(value))
        except ValidationError as error:
            await self._refuse(validation_error(error, value), name)
        except ApiError as error:
            await self._refuse(error, name)
        except Exception as error:  # the session continues
            await self._refuse(api_error(error), name)

    async def _refuse(self, error: ApiError, event_id: str | None) -> None:
        await self.send(
            "error", error=error.body["error"] | {"event_id": event_id if isinstance(event_id, str) else None}
        )

    async def _handle(self, event: schema.ClientEvent) -> None:
        match event:
            case schema.SessionUpdate():
                await self._update(event.session)
            case schema.Append():
                await self._append(decode_pcm16(event.audio, param="audio"))
            case schema.Commit():
                await self._commit(self.input.take(self.started), respond=False)
            case schema.Clear():
                self.input.clear()
                self._drop_live()
                self.started = self.next_item = None
                await self.send("input_audio_buffer.cleared")
            case schema.ItemCreate():
                await self._create(event)
            case schema.ItemTruncate():
                self.turns.turns[self.turns.index(event.item_id)].truncate(event.audio_end_ms)
                await self.send(
                    "conversation.item.truncated",
                    item_id=event.item_id,
                    content_index=0,
                    audio_end_ms=event.audio_end_ms,
                )
            case schema.ItemDelete():
                del self.turns.turns[self.turns.index(event.item_id)]
                await self.send("conversation.item.deleted", item_id=event.item_id)
            case schema.ItemRetrieve():
                turn = self.turns.turns[self.turns.index(event.item_id)]
                await self.send("conversation.item.retrieved", item=turn.as_item())
            case schema.ResponseCreate():
                await self._respond(event.response)
            case schema.ResponseCancel():
                if not self._answering():
                    raise refused("response_id", "no answer is in progress", code="response_cancel_not_active")
                await self._stop("client_cancelled")

    # --- the session -------------------------------------------------------------------------------------------

    async def _update(self, changes: dict[str, Any]) -> None:
        try:
            session = schema.changed(self.session, changes)
        except ValidationError as error:
            raise validation_error(error, {"session": changes}, under="session") from error
        if session.model is not None:
            self.state.check_model(session.model)
        if session.output_modalities == ["audio"]:
            self.state.require_speech()
            voice_named(session.audio.output.voice, self.state.engine, param="session.audio.output.voice")
        renew = session.audio.input != self.session.audio.input
        self.session = session
        if renew:
            self._drop_live()
            self.input, self.started, self.next_item = self._new_input(), None, None
        await self.send("session.updated", session=self._described())

    def _new_input(self) -> InputAudio:
        return InputAudio(self.session.audio.input, gate=self.state.settings.vad)

    def _described(self) -> dict[str, Any]:
        return {"id": self.id, "object": "realtime.session", **self.session.model_dump()}

    # --- sound -------------------------------------------------------------------------------------------------

    async def _append(self, samples: Tensor) -> None:
        try:
            for border, milliseconds in self.input.append(samples):
                if border.event == "started":
                    await self._begin_turn(border, milliseconds)
                else:
                    await self._end_turn(border, milliseconds)
        except ApiError:  # the buffer was cleared
            self._drop_live()
            self.started = self.next_item = None
            raise
        if self.input.detector is None and self.next_item is None:
            self.next_item = _new_item()
            self._begin_live(self.input.first)
        if self.live is not None:
            self.live.append(self.input.heard(self.live.end))

    async def _begin_turn(self, border: Border, milliseconds: int) -> None:
        detection = self.session.audio.input.turn_detection
        assert detection is not None
        self.started, self.next_item = border, _new_item()
        self._begin_live(self.input.number(border))
        await self.send("input_audio_buffer.speech_started", audio_start_ms=milliseconds, item_id=self.next_item)
        if detection.interrupt_response:
            await self._stop("turn_detected")

    async def _end_turn(self, border: Border, milliseconds: int) -> None:
        detection = self.session.audio.input.turn_detection
        assert detection is not None
        await self.send("input_audio_buffer.speech_stopped", audio_end_ms=milliseconds, item_id=self.next_item)
        try:
            await self._commit(self.input.take(self.started, border), respond=detection.create_response)
        except ApiError as error:  # the rest of what was appended is searched all the same
            await self._refuse(error, None)

    def _begin_live(self, begin: int) -> None:
        """Write down the turn from that sample on, if that is wanted and the encoder can."""
        self._drop_live()
        if self.session.audio.input.transcription is None or not transcribes_live(self.state.engine):
            return
        assert self.next_item is not None
        rate = self.input.rate
        self.live = LiveTranscript(
            self.state, item=self.next_item, begin=begin, rate=rate, send=self.send, client=self.client
        )

    def _drop_live(self) -> None:
        if self.live is not None:
            self.live.cancel()
        self.live = None

    async def _commit(self, samples: Tensor, *, respond: bool) -> None:
        """The turn in progress has ended: samples (N)."""
        live, item, self.live, self.next_item, self.started = self.live, self.next_item, None, None, None
        if len(samples) < SHORTEST * self.input.rate:
            if live is not None:
                live.cancel()
            seconds = len(samples) / self.input.rate
            raise refused(
                "audio", f"a turn of {seconds:.2f} s; at least {SHORTEST:g} s are needed", code="buffer_too_small"
            )
        sound = for_encoder(samples, self.input.rate, self.state.engine)
        turn = Turn(role="user", content=[{"type": "input_audio", "transcript": None}], media={0: sound})
        turn.id = item or turn.id
        before = self.turns.add(turn)
        await self.send("input_audio_buffer.committed", previous_item_id=before, item_id=turn.id)
        await self._announce(turn, before)
        if self.session.audio.input.transcription is not None:
            task = asyncio.create_task(self._transcribe(turn, sound, samples, live))
            self.jobs.add(task)
            task.add_done_callback(self.jobs.discard)
        if respond:
            await self._respond(schema.ResponseOptions())

    async def _transcribe(self, turn: Turn, sound: Tensor, samples: Tensor, live: LiveTranscript | None) -> None:
        """sound (N) of a turn at the encoder's rate, samples (N) at the client's."""
        where = {"item_id": turn.id, "content_index": 0}
        try:
            if live is not None:
                transcript = await live.result(samples)
            else:
                transcript = await self.state.job(self.state.engine.transcript, sound, client=self.client)
        except Exception as error:
            await self.send(f"{TRANSCRIPTION}.failed", error=api_error(error).body["error"], **where)
            return
        finally:
            if live is not None:
                live.cancel()  # the client has gone, or it has ended
        turn.content[0]["transcript"] = transcript.text
        if live is None:
            await self.send(f"{TRANSCRIPTION}.delta", delta=transcript.text, **where)
        seconds = len(sound) / self.state.engine.media.require_hearing().mel.sample_rate
        usage = {"type": "duration", "seconds": round(seconds, 3)}
        words = transcript.to_dict()["words"]  # as verbose_json has them, from the turn's beginning on
        done = {"transcript": transcript.text, "words": words, "usage": usage}
        await self.send(f"{TRANSCRIPTION}.completed", **done, **where)

    # --- turns and answers -------------------------------------------------------------------------------------

    async def _create(self, event: schema.ItemCreate) -> None:
        rate, most = self.session.audio.input.format.rate, self.state.settings.max_images
        if self.turns.images + sum(each.type == "input_image" for each in event.item.content) > most:
            raise refused("item.content", f"at most {most} images in a conversation: delete an item that has one")
        arguments = (event.item, self.state.engine, self.state.settings)
        turn = await self.state.job(read_item, *arguments, rate=rate, client=self.client)
        if any(other.id == turn.id for other in self.turns.turns):
            raise refused("item.id", f"there is an item {turn.id!r} already")
        await self._announce(turn, self.turns.add(turn, after=event.previous_item_id))

    async def _announce(self, turn: Turn, before: str | None) -> None:
        for name in ("conversation.item.added", "conversation.item.done"):
            await self.send(name, previous_item_id=before, item=turn.as_item())

    async def _respond(self, options: schema.ResponseOptions) -> None:
        if self._answering():
            raise refused(
                "response", "an answer is in progress: cancel it first", code="conversation_already_has_active_response"
            )
        own = {
            name: value
            for name in ("output_modalities", "instructions", "max_output_tokens")
            if (value := getattr(options, name)) is not None
        }
        session = schema.changed(self.session, own)
        if session.output_modalities == ["audio"]:
            self.state.require_speech()
        self.response = Response(self.state, session, self.turns, send=self.send, client=self.client)
        self.answer = asyncio.create_task(self.response.run())

    def _answering(self) -> bool:
        return self.answer is not None and not self.answer.done()

    async def _stop(self, reason: str) -> None:
        """Cancel the answer in progress, and wait until its events are out."""
        if self.response is not None and self.answer is not None and not self.answer.done():
            self.response.reason = reason
            self.answer.cancel()
            await asyncio.gather(self.answer, return_exceptions=True)


def _new_item() -> str:
    return f"item_{uuid.uuid4().hex[:24]}"
