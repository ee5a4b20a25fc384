"""`/v1/completions`: a text is continued as it stands, without roles."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from muomni.inference.answer import Answer, TokenLogprob
from muomni.inference.prompt import Request as ModelRequest
from muomni.serving import sse
from muomni.serving.answers import Generation, submit, usage_of
from muomni.serving.errors import field_names, refused
from muomni.serving.sampling import read_fields
from muomni.serving.schemas.completions import Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from muomni.serving.schemas.shared import EVENT_STREAM, errors
from muomni.serving.state import ServerState, client_of, state_of
from muomni.serving.strict_route import StrictRoute, while_connected

router = APIRouter(route_class=StrictRoute, tags=["completions"])


@router.post(
    "/v1/completions",
    response_model=Completion,
    response_model_exclude_unset=True,
    responses=errors(404, 429) | {200: {"content": EVENT_STREAM}},
)
async def create_completion(
    body: CompletionRequest, request: Request, state: Annotated[ServerState, Depends(state_of)]
) -> Any:
    """Continuations of a text, whole or streamed."""
    wanted = read_fields(body, state, max_new_tokens=body.max_tokens, logprobs=body.logprobs)
    number = wanted.number
    if body.best_of not in (None, number):
        raise refused("best_of", "must equal n: this server returns every answer that it generates")
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if sum(map(len, prompts)) > state.settings.max_characters:
        raise refused("prompt", f"at most {state.settings.max_characters} characters are taken")
    if number > 1 and len(prompts) * number > (most := max(state.settings.max_choices, state.settings.max_queue // 2)):
        raise refused("n", f"{len(prompts)} prompts with {number} answers each; at most {most} answers to one request")
    asked = [ModelRequest(text=prompt, format="plain") for prompt in prompts]
    with field_names(text="prompt"):
        generation = await submit(
            state, client_of(request), asked, wanted.options, number=number, whole=not body.stream
        )
    head: dict[str, Any] = {
        "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()), "model": wanted.model,
    }  # fmt: skip
    echoes = [f"{prompt} " if body.echo else "" for prompt in prompts for _ in range(number)]
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = _chunks(generation, head, echoes, prompts=len(prompts), usage=usage)
        return sse.stream(chunks, cancel=generation.cancel)
    answers = await while_connected(request, generation.whole())
    made = [
        CompletionChoice(
            index=index, text=echo + answer.text, logprobs=_logprobs(answer.logprobs, offset=len(echo)),
            finish_reason=answer.finish_reason,
        )
        for index, (echo, answer) in enumerate(zip(echoes, answers, strict=True))
    ]  # fmt: skip
    return Completion(**head, choices=made, usage=usage_of(answers, prompts=len(prompts)))


def _logprobs(tokens: list[TokenLogprob] | None, *, offset: int) -> CompletionLogprobs | None:
    if tokens is None:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return CompletionLogprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[max(token.logprob, -9999.0) for token in tokens],
        top_logprobs=[{text: max(logprob, -9999.0) for _, text, logprob in token.top} for token in tokens],
        text_offset=offsets,
    )


async def _chunks(
    generation: Generation, head: dict[str, Any], echoes: list[str], *, prompts: int, usage: bool
) -> AsyncGenerator[str]:
    answers: dict[int, Answer] = {}

    def chunk(index: int, text: str, **more: Any) -> str:
        choice = CompletionChoice(index=index, text=text, **({"finish_reason": None} | more))
        return sse.line(Completion(**head, choices=[choice]))

    lengths = [len(echo) for echo in echoes]
    for index, echo in enumerate(echoes):
        if echo:
            yield chunk(index, echo)
    async with aclosing(generation.pieces()) as pieces:
        async for index, event in pieces:
            if isinstance(event, Answer):
                answers[index] = event
                yield chunk(index, "", finish_reason=event.finish_reason)
            else:
                more = {"logprobs": _logprobs(event.tokens, offset=lengths[index])} if event.tokens else {}
                lengths[index] += len(event.text)
                yield chunk(index, event.text, **more)
    if usage:
        total = usage_of([answers[index] for index in range(len(echoes))], prompts=prompts)
        yield sse.line(Completion(**head, choices=[], usage=total))
