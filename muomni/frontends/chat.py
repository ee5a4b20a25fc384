"""Messages -> ids, targets and media slots:

    first turn    [image slots][audio slots] BOS [<system> text] <user> question <assistant> answer EOS
    later turns   [image slots][audio slots] <user> question <assistant> answer EOS

What a turn writes around its text is that of the tokenizer (chat_form.py): a pretrained model keeps the turns that it knows.

A media slot is the id IMAGE or AUDIO repeated once a media token; the model overwrites their embeddings in order. A
message is {"role", "content"}, content a string or a list of items: {"type": "text", "text"}, {"type": "image",
"image"}, {"type": "audio", "audio"}, and from the assistant {"type": "speech", "text"}, text to be spoken. White
space at the ends of what a user says means nothing (it is typed and pasted by accident) and is left out, in training as in use.

Shapes: T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.short_repr import shown
from muomni.special_tokens import AUDIO, EOS, IGNORE, IMAGE

Message = Mapping[str, Any]
_TEXT_TYPES = {"user": ("text",), "assistant": ("text", "speech"), "system": ("text",)}


@dataclass(slots=True, kw_only=True)
class ChatSequence:
    """One conversation for the Thinker."""

    ids: Tensor  # T int64, media slots included
    targets: Tensor  # T int64: the token that position t predicts, -100 where there is no loss
    images: list[Any] = field(default_factory=list)  # values of "image" items, in order of their slots
    audios: list[Any] = field(default_factory=list)  # values of "audio" items, in order of their slots
    branches: Tensor | None = (
        None  # T int64, of `encode_branches`: 0 for the shared slots, 1, 2, .. for the conversations
    )


def media_of(messages: Sequence[Message]) -> tuple[list[Any], list[Any]]:
    """The images and the audios of a conversation, in the order of their slots: to be loaded before encoding."""
    items = [item for message in messages for item in _items(message)]
    images, audios = ([item[media] for item in items if item["type"] == media] for media in ("image", "audio"))
    return images, audios


def join_turns_of_a_role(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Consecutive turns of one role as one turn, their contents one after the other."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        items = _items(message)
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {**joined[-1], "content": [*joined[-1]["content"], *items]}
        else:
            joined.append({**message, "content": items})
    return joined


def check_conversation(messages: Sequence[Message]) -> None:
    """Raise the ValueError that `encode_messages` would raise for roles out of order and unknown content items."""
    media_of(messages)
    _check_order(_split_system(messages)[1], prompt=False)


def encode_messages(
    tokenizer: Tokenizer, messages: Sequence[Message], *, image_tokens: int, audio_tokens: Sequence[int]
) -> ChatSequence:
    """A whole conversation, for training: the loss falls on the assistants' tokens and their EOS only.

    `image_tokens`: slots of each image. `audio_tokens`: slots of each audio, in order.
    Raises ValueError for roles out of order, unknown content items, or a count of audios that differs from `audio_tokens`.
    """
    return _encode(tokenizer, messages, image_tokens, audio_tokens, first=True, prompt=False)


def encode_branches(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]], *, image_tokens: int
) -> ChatSequence:
    """Conversations about the same image in one sequence that holds its slots once, for training: each attends to the slots
    and to itself alone (`branches`), so that its logits are those without the others."""
    each = [encode_messages(tokenizer, one, image_tokens=image_tokens, audio_tokens=()) for one in conversations]
    slots = each[0].ids[:image_tokens]
    if any(one.images != each[0].images or len(one.images) != 1 for one in each):
        raise ValueError("chat: conversations that share an image must begin with this one image and have no other")
    numbers = [torch.full((len(one.ids) - image_tokens,), number) for number, one in enumerate(each, start=1)]
    return ChatSequence(
        ids=torch.cat([slots, *(one.ids[image_tokens:] for one in each)]),
        targets=torch.cat([each[0].targets[:image_tokens], *(one.targets[image_tokens:] for one in each)]),
        images=each[0].images,
        branches=torch.cat([torch.zeros_like(slots), *numbers]),
    )


def encode_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    image_tokens: int,
    audio_tokens: Sequence[int],
    first: bool = True,
) -> ChatSequence:
    """A conversation that the model continues: it ends with the user's turn, then `<assistant>`. No loss anywhere.

    `first=False`: further turns of a conversation that the cache already holds, without BOS.
    """
    return _encode(tokenizer, messages, image_tokens, audio_tokens, first=first, prompt=True)


def _encode(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    image_tokens: int,
    audio_tokens: Sequence[int],
    *,
    first: bool,
    prompt: bool,
) -> ChatSequence:
    images, audios = media_of(messages)
    if len(audios) != len(audio_tokens):
        raise ValueError(f"chat: {len(audios)} audios in the messages, but token counts of {len(audio_tokens)}")
    counts = iter(audio_tokens)
    ids: list[int] = []
    learnt: list[bool] = []  # True if this token is predicted with a loss

    def put(tokens: list[int], *, loss: bool = False) -> None:
        ids.extend(tokens)
        learnt.extend([loss] * len(tokens))

    system, turns = _split_system(messages)
    _check_order(turns, prompt=prompt)
    for index, message in enumerate(turns):
        if message["role"] == "user":
            types = [item["type"] for item in _items(message)]
            put([IMAGE] * (image_tokens * types.count("image")))
            for _ in range(types.count("audio")):
                put([AUDIO] * next(counts))
            opening = index == 0
            put(_user_turn(tokenizer, text_of(message), system if opening else "", first=first and opening))
        else:
            put([*encode_answer(tokenizer, text_of(message)), EOS], loss=True)
    row = torch.tensor(ids, dtype=torch.long)
    targets = torch.full_like(row, IGNORE)
    following = torch.tensor(learnt[1:], dtype=torch.bool)
    targets[:-1][following] = row[1:][following]
    return ChatSequence(ids=row, targets=targets, images=images, audios=audios)


def encode_answer(tokenizer: Tokenizer, text: str) -> list[int]:
    """An answer as it follows a prompt, without its EOS."""
    form, text = tokenizer.chat, tokenizer.formed(text)
    before = tokenizer.split_special(form.user[1] + form.assistant)
    follows_text = bool(before) and isinstance(before[-1], str)
    return tokenizer.encode_segments([form.answer + (text.strip() if form.trims else text)], follows_text=follows_text)


def _user_turn(tokenizer: Tokenizer, text: str, system: str, *, first: bool) -> list[int]:
    """Ids up to where the answer begins. system: of the opening turn, else empty. first: nothing is before it."""
    form, special = tokenizer.chat, tokenizer.split_special
    text, system = tokenizer.formed(text.strip()), tokenizer.formed(system.strip() if form.trims else system)
    segments = special(form.begin if first else form.between)
    written = bool(system) or (first and form.default_system is not None)
    system = system or form.default_system or ""
    if written and form.joins_system is not None:
        text = system + form.joins_system + text
    elif written:
        segments = [*segments, *special(form.system[0]), system, *special(form.system[1])]
    return tokenizer.encode_segments([*segments, *special(form.user[0]), text, *special(form.user[1] + form.assistant)])


def text_of(message: Message) -> str:
    """The text items of a message, joined by spaces."""
    wanted = _TEXT_TYPES[message["role"]]
    return " ".join(item["text"] for item in _items(message) if item["type"] in wanted)


def _items(message: Message) -> list[Mapping[str, Any]]:
    if not isinstance(message, Mapping):
        raise ValueError(f"chat: a message is {{'role': ..., 'content': ...}}, not {shown(message)}")
    role: Any = message.get("role")
    content: Any = message.get("content")
    if not isinstance(role, str) or role not in _TEXT_TYPES:
        raise ValueError(f"chat: unknown role {shown(role)}; available: {', '.join(_TEXT_TYPES)}")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    allowed = _TEXT_TYPES[role] + (("image", "audio") if role == "user" else ())
    for item in content if isinstance(content, Sequence) else [content]:
        type_ = item.get("type") if isinstance(item, Mapping) else None
        if type_ not in allowed:
            raise ValueError(
                f"chat: a {role} message cannot hold an item of type {shown(type_)}; available: {', '.join(allowed)}"
            )
        key = "text" if type_ == "speech" else type_
        if key not in item:
            raise ValueError(f"chat: an item of type {type_!r} lacks its key {key!r}")
        if key == "text" and not isinstance(item[key], str):
            raise ValueError(f"chat: the text of an item is a string, not {shown(item[key])}")
    return list(content)


def _split_system(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    if messages and messages[0]["role"] == "system":
        return text_of(messages[0]), messages[1:]
    return "", messages


def _check_order(turns: Sequence[Message], *, prompt: bool) -> None:
    roles = [message["role"] for message in turns]
    expected = [("user", "assistant")[index % 2] for index in range(len(roles))]
    last = "user" if prompt else "assistant"
    if not roles or roles != expected or roles[-1] != last:
        raise ValueError(f"chat: the turns must alternate user, assistant and end with the {last}, not {roles}")
