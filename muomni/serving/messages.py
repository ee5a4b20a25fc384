"""OpenAI's messages -> the engine's: media decoded, earlier spoken answers by their transcript."""

import threading
import time
from collections import OrderedDict
from typing import Any

from muomni.inference.engine import Engine
from muomni.serving.errors import ApiError, refused
from muomni.serving.media import decode_base64, read_audio_bytes, read_image_url
from muomni.serving.schemas.chat import AssistantMessage, AudioItem, ImageItem, Message, TextItem
from muomni.serving.settings import ServerSettings

KEPT_SECONDS, KEPT_ANSWERS, KEPT_CHARACTERS = 3600, 1000, 1 << 20


class SpokenAnswers:
    """Transcripts of spoken answers by id: later requests name their audio instead of repeating it. For an hour, and only the
    most recent ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._characters = 0

    def keep(self, name: str, transcript: str) -> None:
        """Remember an answer from now on."""
        with self._lock:
            self._kept[name] = (time.monotonic() + KEPT_SECONDS, transcript)
            self._characters += len(transcript)
            while len(self._kept) > KEPT_ANSWERS or self._characters > KEPT_CHARACTERS:
                self._characters -= len(self._kept.popitem(last=False)[1][1])

    def transcript(self, name: str, *, param: str) -> str:
        """Raises ApiError 404 for an unknown or expired id."""
        with self._lock:
            expires, transcript = self._kept.get(name, (0.0, ""))
        if expires < time.monotonic():
            raise ApiError(404, f"{param}: no audio {name[:60]!r}, or it has expired: send the text", param=param)
        return transcript


def read_messages(
    messages: list[Message], engine: Engine, settings: ServerSettings, answers: SpokenAnswers
) -> list[dict[str, Any]]:
    """As `Request.messages`. Raises ApiError naming the item at fault. Decodes media: not for the event loop."""
    characters = sum(len(text) for message in messages for text in _texts(message))
    if characters > settings.max_characters:
        raise refused("messages", f"{characters} characters; at most {settings.max_characters} are taken")
    images = sum(isinstance(item, ImageItem) for message in messages for item in _items(message))
    if images > settings.max_images:
        raise refused("messages", f"{images} images; at most {settings.max_images} are taken")
    converted: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        role = "system" if message.role == "developer" else message.role
        if message.role == "user" and isinstance(message.content, str) and not message.content.strip():
            raise refused(f"{param}.content", "empty")
        if isinstance(message, AssistantMessage) and message.audio is not None:
            text = answers.transcript(message.audio.id, param=f"{param}.audio.id")
            converted.append({"role": role, "content": text})
        elif isinstance(message.content, str):
            converted.append({"role": role, "content": message.content})
        elif message.content is None:
            raise refused(f"{param}.content", "an answer needs its text, or its audio's id")
        else:
            content = [
                _item(item, engine, settings, param=f"{param}.content[{place}]")
                for place, item in enumerate(message.content)
            ]
            if role != "user":  # the engine's other roles hold one text
                content = "".join(item["text"] for item in content)  # type: ignore[assignment]
            converted.append({"role": role, "content": content})
    if all(message["role"] == "system" for message in converted):
        return _asked_by_instructions(converted)
    if converted[-1]["role"] != "user":
        raise refused(f"messages[{len(messages) - 1}].role", "the last message must be the user's")
    return _system_first(converted)


def has_media(messages: list[Message]) -> bool:
    """Whether there is anything to decode and to encode."""
    return any(not isinstance(item, TextItem) for message in messages for item in _items(message))


def _system_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Instructions joined in front of the conversation, wherever they stand in it: the prompt format has one place for them."""
    instructions = [message["content"] for message in messages if message["role"] == "system"]
    turns = [message for message in messages if message["role"] != "system"]
    text = "\n".join(instructions)
    return ([{"role": "system", "content": text}] if text.strip() else []) + alternating(turns)


def alternating(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns of the same role that follow each other are one: the prompt format has user and assistant in turn."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        if not joined or joined[-1]["role"] != message["role"]:
            joined.append(message)
            continue
        before, content = joined[-1]["content"], message["content"]
        if isinstance(before, str) and isinstance(content, str):
            joined[-1] = message | {"content": f"{before} {content}"}
        else:
            joined[-1] = message | {"content": [*_as_items(before), *_as_items(content)]}
    return joined


def _as_items(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _asked_by_instructions(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Instructions that no turn of the user follows are the question."""
    text = "\n".join(message["content"] for message in messages)
    if not text.strip():
        raise refused("messages[0].content", "empty")
    return [{"role": "user", "content": text}]


def _items(message: Message) -> list[Any]:
    return message.content if isinstance(message.content, list) else []


def _texts(message: Message) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [item.text for item in _items(message) if isinstance(item, TextItem)]


def _item(
    item: TextItem | ImageItem | AudioItem, engine: Engine, settings: ServerSettings, *, param: str
) -> dict[str, Any]:
    match item:
        case TextItem():
            return {"type": "text", "text": item.text}
        case ImageItem():
            name = f"{param}.image_url.url"
            if engine.media.image is None:
                raise refused(name, "this model reads no images")
            return {"type": "image", "image": read_image_url(item.image_url.url, settings, param=name)}
        case AudioItem():
            name = f"{param}.input_audio.data"
            if engine.media.hearing is None:
                raise refused(name, "this model takes no audio")
            raw = decode_base64(item.input_audio.data, param=name)
            return {"type": "audio", "audio": read_audio_bytes(raw, engine, settings, param=name)}
