"""Continuous batching of speech: one thread computes all frames of the Talker and all blocks of the vocoder.

An iteration of the thread ends what was cancelled, reads one new sentence, computes one frame of every utterance
(speech_slots.py) and renders blocks: all first ones, and of the others those whose listeners run dry first. So chunks are
emitted while the Talker speaks, and a request that arrives late is heard about as early as one that arrives alone.

Frames are batched. Blocks are not: Griffin-Lim on four mels at once saves a quarter of its time on a core, but utterances rarely
complete blocks of equal shape in the same iteration, and one by one every sample is that of the single run by the engine.

Shapes: n utterances, K codebooks, N samples.
"""

import logging
import math
import time
from collections.abc import Iterable
from typing import Any

import torch

from muomni.inference.decoding.sampling import NOT_FINITE
from muomni.inference.engine import Engine
from muomni.inference.errors import Cancelled, InvalidOption
from muomni.inference.scheduling.speech_request import Emit, Speech, SpeechDone, SpeechStats, SpeechTicket
from muomni.inference.scheduling.speech_slots import SpeechSlots
from muomni.inference.scheduling.worker import Worker
from muomni.inference.tts.frame_choice import greedy_frames
from muomni.inference.validation import require_str

log = logging.getLogger(__name__)

SLOTS_PER_BLOCK = 8  # an utterance completes a block in 8 frames: so many are served by one block an iteration
URGENT_SECONDS = 0.1  # before a listener runs dry: then blocks go before frames


class SpeechScheduler(Worker[Speech]):
    """Speaks many texts at once by an engine's Talker.

    Args:
        slots: requests that are spoken at the same time. max_queue: requests that wait for a slot.
    """

    def __init__(self, engine: Engine, *, slots: int = 4, max_queue: int = 32) -> None:
        super().__init__("texts", slots=slots, max_queue=max_queue)
        self.speaker, self.tokenizer = engine.require_speaker(), engine.tokenizer
        self.slots = SpeechSlots(self.speaker.talker, rows=slots)
        self.active: list[Speech] = []
        self.rows: list[Speech] = []  # of row i of the slots, for each i
        self.last = torch.empty(0, 0)  # the last frames of the rows (n, K + 1)
        self.counts = dict.fromkeys(("finished", "cancelled", "failed", "frames", "steps", "chunks", "late"), 0)
        self.audio_seconds = 0.0  # spoken in all
        self._thread.start()

    # --- any thread --------------------------------------------------------------------------------------------

    def submit(
        self,
        texts: Iterable[str] | str,
        *,
        voice: Any = 0,
        look_ahead: int | None = None,
        emit: Emit,
        client: str = "",
        more: bool = False,
    ) -> SpeechTicket:
        """Queue a text. `emit` is called from the scheduler's thread and must not block: with waveform chunks (N,) float32, then
        with one `SpeechDone` or the exception that ended it. Joined chunks equal `Engine.generate_speech` of the text at the
        same `look_ahead`, however it came.

        texts: the text, or pieces that are joined. more: the text is still being written; `feed` appends to it, `finish` ends it.
        client: whose turn it is; clients take turns. Raises MuomniErrors for an unknown voice or a text of which nothing can be
        spoken, QueueFull, and Cancelled after `close`.
        """
        voice = self.speaker.voice(voice)
        pieces = [texts] if isinstance(texts, str) else list(texts)
        for piece in pieces:
            require_str("texts", piece)
        ticket = SpeechTicket(self._wake)
        speech = ticket.speech = Speech(
            self.speaker, self.tokenizer, voice=voice, look_ahead=look_ahead, ticket=ticket, emit=emit
        )
        text, plan = "".join(pieces), speech.plan
        plan.feed(text)
        if not more:
            plan.close()
            while not plan.look():
                if not plan.has_text:
                    raise self.speaker.unspeakable(text)
        with self._changed:
            self._check_room(len(self._queue))
            self._put(speech, client=client)
        return ticket

    def feed(self, ticket: SpeechTicket, text: str) -> None:
        """Append to a text that was submitted with `more`; its sentences are spoken as soon as they are complete. A no-op if the
        request has ended."""
        require_str("text", text)
        if ticket.speech.plan.closed:
            raise InvalidOption(
                "feed: the text is finished: submit it with more=True, and finish it later", param="text"
            )
        with self._changed:
            ticket.speech.plan.feed(text)
            self._changed.notify()

    def finish(self, ticket: SpeechTicket) -> None:
        """The text that was submitted with `more` is complete. Without a word in it the request ends with an error."""
        with self._changed:
            ticket.speech.plan.close()
            self._changed.notify()

    def stats(self) -> SpeechStats:
        """Numbers for monitoring."""
        with self._changed:
            queued = len(self._queue)
        return SpeechStats(
            active=len(self.active),
            queued=queued,
            slots=self.num_slots,
            mean_batch=self.counts["frames"] / max(self.counts["steps"], 1),
            audio_seconds=self.audio_seconds,
            **self.counts,
        )

    # --- the scheduler's thread --------------------------------------------------------------------------------

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._has_work() or self._has_cancelled or self._aborting):
                    if self._closing and not (self.active or self._queue):
                        return
                    self._changed.wait()
                if self._aborting and not (self.active or self._queue):
                    return
            try:
                self._drop_cancelled()
                self._admit()
                self._begin_sentence()
                self._step()
                self._render()
                self._finish()
            except Exception as error:  # of the bookkeeping around a step: without this thread nobody would be answered
                log.exception("speaking %d texts failed", len(self.active))
                self._fail(error)

    def _has_work(self) -> bool:
        """Whether there is anything to compute; requests may only wait for their text."""
        if self.rows or (self._queue and len(self.active) < self.num_slots):
            return True
        return any(speech.plan.has_text or speech.synthesizer.ready or speech.finished for speech in self.active)

    def _drop_cancelled(self) -> None:
        with self._changed:
            if not (self._has_cancelled or self._aborting):
                return
            self._has_cancelled, everything = False, self._aborting
            dropped = self._queue.remove(lambda speech: everything or speech.ticket.cancelled)
        dropped += [speech for speech in self.active if everything or speech.ticket.cancelled]
        for speech in dropped:
            self._end(speech, Cancelled("the request was cancelled"))

    def _admit(self) -> None:
        with self._changed:
            while self._queue and len(self.active) < self.num_slots:
                self.active.append(self._queue.pop())

    def _begin_sentence(self) -> None:
        """Read the next sentence of the request that has waited longest; one an iteration, so that the others go on."""
        with self._changed:
            idle = [speech for speech in self.active if speech.row < 0 and speech.plan.has_text]
            if not idle:
                return
            speech = min(idle, key=lambda speech: (speech.deadline, speech.submitted))
        start = time.perf_counter()
        try:
            if not speech.plan.look():
                return
            step = speech.plan.take()
            speech.begin(step)
            ahead = speech.plan.look_ahead or 0
            limit = step.limit or self.speaker.frames_before(step.text, voice=speech.voice, look_ahead=ahead)
            if limit <= speech.frames:
                if speech.whole:
                    speech.end_sentence(cut=True)
                return
            decoder, first, (speech.limit,) = self.speaker.begin(
                [step.text], [limit], [speech.voice], speech.so_far(), talker=speech.talker
            )
            speech.talker = decoder.talker
        except Exception as error:
            self._end(speech, error)
            return
        speech.timings.speech += time.perf_counter() - start
        if not speech.push(first[0, :-1], ended=bool(first[0, -1])):
            speech.row = self.slots.join(decoder.cache, frames=speech.frames, talker=decoder.talker)
            self.last = torch.cat([self.last, first]) if self.rows else first
            self.rows.append(speech)

    def _step(self) -> None:
        """One frame of every utterance."""
        if not self.rows:
            return
        start = time.perf_counter()
        try:
            out = self.slots.step(self.last[:, None, :-1])
            self.last = greedy_frames(out)
            finite = (out.logits.isfinite().all(dim=-1).all(dim=-1) & out.stop.isfinite())[:, 0].tolist()
            ended = (self.last[:, -1] > 0).tolist()
        except Exception as error:  # out of memory, for example: later requests are spoken all the same
            log.exception("a step of %d utterances failed", len(self.rows))
            for speech in self.rows.copy():
                self._end(speech, error)
            return
        seconds = time.perf_counter() - start
        self.counts["steps"] += 1
        self.counts["frames"] += len(self.rows)
        frames = self.last[:, :-1]
        for row in reversed(range(len(self.rows))):  # leaving moves the last row
            speech = self.rows[row]
            speech.timings.speech += seconds
            if not finite[row]:
                self._end(speech, ValueError(NOT_FINITE))
            elif speech.push(frames[row], ended=ended[row]):
                self._leave(speech)

    def _render(self) -> None:
        """All first blocks and those that are needed soon, and of the others some that are needed first."""
        ready = sorted(
            (speech for speech in self.active if speech.synthesizer.ready), key=lambda speech: speech.deadline
        )
        soon = time.perf_counter() + URGENT_SECONDS
        urgent = sum(speech.deadline < soon for speech in ready)  # all first blocks are
        count = max(math.ceil(self.num_slots / SLOTS_PER_BLOCK), urgent)
        for speech in ready[:count]:
            if speech.ticket.cancelled:
                continue
            before = speech.timings.audio_seconds
            try:
                in_time = speech.render()
            except Exception as error:
                self._end(speech, error)
                continue
            self.counts["chunks"] += 1
            self.counts["late"] += not in_time
            self.audio_seconds += speech.timings.audio_seconds - before

    def _fail(self, error: Exception) -> None:
        """End all active requests, and begin with empty rows."""
        failed, self.active, self.rows = self.active, [], []
        self.slots = SpeechSlots(self.speaker.talker, rows=self.num_slots)
        for speech in failed:
            speech.row = -1
            self._end(speech, error)

    def _finish(self) -> None:
        with self._changed:
            # One that is cancelled in the middle of an iteration lacks chunks: it is dropped in the next one.
            finished = [speech for speech in self.active if speech.finished and not speech.ticket.cancelled]
        for speech in finished:
            empty = InvalidOption("nothing in the text can be spoken", param="text")
            self._end(speech, speech.done() if speech.codes else empty)

    def _leave(self, speech: Speech) -> None:
        """Free the row of a request whose sentence has ended."""
        row, last = speech.row, self.slots.leave(speech.row)
        kept = list(range(last))
        if row != last:
            kept[row] = last
        self.last = self.last[kept]  # a copy: requests hold views of the frames
        self.rows = [self.rows[index] for index in kept]
        if row != last:
            self.rows[row].row = row
        speech.row = -1

    def _end(self, speech: Speech, result: SpeechDone | Exception) -> None:
        """Take a request out, emit the last thing of it, and count it."""
        if speech.row >= 0:
            self._leave(speech)
        if speech in self.active:
            self.active.remove(speech)
        name = (
            "finished" if isinstance(result, SpeechDone) else "cancelled" if isinstance(result, Cancelled) else "failed"
        )
        self.counts[name] += 1
        if name == "finished":
            self._note_seconds(time.perf_counter() - speech.submitted)
        speech.end(result)
