"""Answers of the scheduler for one request: `n` of them, whole or as they come."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from muomni.inference.answer import Answer, Piece
from muomni.inference.decoding.options import MAX_SEED, GenerationOptions
from muomni.inference.prompt import Request
from muomni.serving.events import Events, merged
from muomni.serving.jobs import in_thread
from muomni.serving.schemas.shared import CompletionDetails, PromptDetails, Usage
from muomni.serving.state import ServerState


@dataclass(kw_only=True)
class Generation:
    """Submitted requests, whose answers come in `events`, one of them a choice."""

    state: ServerState
    events: list[Events]
    begun: float
    deadline: float

    def cancel(self) -> None:
        """End all of them."""
        for each in self.events:
            each.cancel()

    async def whole(self) -> list[Answer]:
        """All answers, when all are complete."""
        try:
            answers = await asyncio.gather(*(self._last(each) for each in self.events))
        finally:
            self.cancel()
        count(self.state, answers)
        return answers

    async def _last(self, events: Events) -> Answer:
        async for event in events:
            self._note_first(events)
            if isinstance(event, Answer):
                return event
        raise AssertionError("a scheduler ends with an answer or an exception")

    async def pieces(self) -> AsyncGenerator[tuple[int, Piece | Answer]]:
        """(choice, piece) as they come, each choice's answer last."""
        answers: list[Answer] = []
        try:
            async with aclosing(merged(self.events)) as events:
                async for index, event in events:
                    self._note_first(self.events[index])
                    if isinstance(event, Answer):
                        answers.append(event)
                    yield index, event
            count(self.state, answers)
        finally:
            self.cancel()

    def _note_first(self, events: Events) -> None:
        if self.begun:
            self.state.metrics.first_token.observe(events.first - self.begun)
            self.begun = 0.0


async def submit(
    state: ServerState,
    client: str,
    requests: Sequence[Request],
    options: GenerationOptions,
    *,
    number: int,
    schema: dict[str, object] | None = None,
    media: bool = False,
    whole: bool = False,
) -> Generation:
    """`number` answers to each of the requests; answer i samples with seed + i. media: requests have images or recordings, which
    are encoded here, in a turn among the blocking jobs. whole: the answers are not needed in pieces. Raises what the scheduler
    refuses at once; then none of them continues."""
    scheduler = state.require_scheduler()
    begun, deadline = time.monotonic(), state.deadline()
    events = [Events(final=Answer, deadline=deadline, whole=whole) for _ in range(len(requests) * number)]

    def submit_all() -> None:
        free = iter(events)
        grammar = None if schema is None else state.grammar.constraint(schema)
        for request in requests:
            read = request if number == 1 else scheduler.read(request)  # its media once for all answers
            for index in range(number):
                own, each = replace(options, seed=(options.seed + index) % MAX_SEED), next(free)
                constraint = None if grammar is None else grammar.copy()
                each.attach(scheduler.submit(read, own, emit=each.emit, client=client, constraint=constraint))

    try:
        if media or schema is not None:  # a schema may take a second to compile
            await state.job(submit_all, client=client)
        else:
            await in_thread(submit_all)
    except BaseException:
        for each in events:
            each.cancel()
        raise
    return Generation(state=state, events=events, begun=begun, deadline=deadline)


def count(state: ServerState, answers: Sequence[Answer]) -> None:
    """Into the metrics."""
    state.metrics.prompt_tokens.inc(sum(answer.prompt_tokens for answer in answers))
    state.metrics.cached_tokens.inc(sum(answer.cached_tokens for answer in answers))
    state.metrics.new_tokens.inc(sum(answer.completion_tokens for answer in answers))


def usage_of(answers: Sequence[Answer], *, prompts: int = 1, audio_tokens: int = 0) -> Usage:
    """OpenAI counts a prompt once, however many answers it has. prompts: answers are `prompts` groups of equal size."""
    group = max(1, len(answers) // prompts)
    firsts = answers[::group]
    prompt, new = sum(each.prompt_tokens for each in firsts), sum(each.completion_tokens for each in answers)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=new + audio_tokens,
        total_tokens=prompt + new + audio_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=sum(each.cached_tokens for each in firsts)),
        completion_tokens_details=CompletionDetails(audio_tokens=audio_tokens),
    )
