"""Fields of a request -> the engine's options."""

import secrets
from dataclasses import dataclass, replace
from typing import Any

from muomni.inference.answer import TokenLogprob
from muomni.inference.decoding.options import MAX_SEED, GenerationOptions
from muomni.serving.errors import refused
from muomni.serving.schemas.chat import ChatLogprob, ChatLogprobs, SamplingFields, TopLogprob
from muomni.serving.state import ServerState

SAME_NAME = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request for text wants: the model by its name, how, and how many answers."""

    model: str
    options: GenerationOptions
    number: int


def read_fields(
    body: SamplingFields, state: ServerState, *, max_new_tokens: int | None, logprobs: int | None
) -> Wanted:
    """The fields that the routes of text share. Raises ApiError naming one of them."""
    model = state.check_model(body.model)
    scheduler = state.require_scheduler()
    if body.stream_options is not None and not body.stream:
        raise refused("stream_options", "needs stream: true")
    number = body.n or 1
    if number > state.settings.max_choices:
        raise refused("n", f"at most {state.settings.max_choices} answers to one request")
    vocab_size = scheduler.prompter.thinker.vocab_size
    options = generation_options(body, state, max_new_tokens=max_new_tokens, logprobs=logprobs, vocab_size=vocab_size)
    return Wanted(model, options, number)


def generation_options(
    body: SamplingFields, state: ServerState, *, max_new_tokens: int | None, logprobs: int | None, vocab_size: int
) -> GenerationOptions:
    """The options of a request; fields that it leaves out are the server's. Raises ApiError naming a field."""
    changes: dict[str, Any] = {name: value for name in SAME_NAME if (value := getattr(body, name)) is not None} | {
        "logprobs": logprobs
    }
    if max_new_tokens is not None:
        changes["max_new_tokens"] = min(max_new_tokens, state.settings.max_new_tokens)
    if body.stop is not None:
        changes["stop"] = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    if body.logit_bias:
        changes["logit_bias"] = {int(token): bias for token, bias in body.logit_bias.items()}
        if unknown := [token for token in changes["logit_bias"] if token >= vocab_size]:
            raise refused("logit_bias", f"there is no token {unknown[0]}; the vocabulary has {vocab_size}")
    seed = state.settings.seed if body.seed is None else body.seed
    changes["seed"] = secrets.randbelow(MAX_SEED) if seed is None else seed % MAX_SEED
    return replace(state.options, **changes)


def top(text: str, logprob: float) -> dict[str, Any]:
    """A token with its bytes. JSON has no infinity: a token that cannot come has OpenAI's -9999."""
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}


def chat_logprobs(tokens: list[TokenLogprob] | None) -> ChatLogprobs | None:
    """In OpenAI's form; None where none were requested."""
    if tokens is None:
        return None
    content = [
        ChatLogprob(
            **top(token.text, token.logprob),
            top_logprobs=[TopLogprob(**top(text, logprob)) for _, text, logprob in token.top],
        )
        for token in tokens
    ]
    return ChatLogprobs(content=content)
