"""Conversations as JSON files: the turns with their media and the tokens of the answers, but no cache.

Reading one back computes the cache again from the same tokens, so that the conversation continues as it would have. Media are
named by path, or embedded (always, if they were not given as files). Only JSON is read: nothing in a file is executed, and a
path in it is only opened as an image or audio.

    {"muomni": "conversation", "version": 1, "tokenizer": sha256, "system_prompt": "", "turns": [
        {"text": "what is this?", "images": [{"path": "/pictures/a.png"}], "audios": [{"data": "UklGR..."}],
         "max_new_tokens": 100, "answer": "a red circle", "tokens": [320, 41, 77]}, ...]}
"""

import base64
import binascii
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image

from muomni.checkpoints.atomic_write import atomic_write
from muomni.frontends.audio_io import wav_bytes
from muomni.frontends.chat import encode_answer
from muomni.frontends.memory_file import MemoryFile
from muomni.inference.conversation import Conversation, Turn
from muomni.inference.errors import InvalidMedia, InvalidOption
from muomni.inference.media import Media, as_pixels
from muomni.inference.prompt import Request
from muomni.inference.sources import MAX_BYTES, in_memory
from muomni.inference.validation import require_path
from muomni.special_tokens import PIECES
from muomni.user_path import user_path

log = logging.getLogger(__name__)

MARK = {"muomni": "conversation", "version": 1}
PLAIN_FIELDS = [field.name for field in fields(Request) if field.name not in ("images", "audios", "messages")]


def save_conversation(path: str | Path, conversation: Conversation, *, embed: bool) -> None:
    """Write the turns that the conversation remembers, atomically. embed: files too, not their paths. Raises InvalidOption for
    a path that holds anything but an earlier conversation, InvalidMedia or OSError for media that are gone."""
    require_path("path", path)
    path = user_path(path)
    if path.is_dir() or (path.is_file() and path.stat().st_size and not _is_conversation(path)):
        raise InvalidOption(f"{path} is no conversation and is not overwritten: name another file", param="path")
    media = conversation.prompter.media
    content = MARK | {
        "tokenizer": conversation.prompter.tokenizer.fingerprint(),
        "system_prompt": conversation.system_prompt,
        "turns": [_turn_to_json(turn, media, embed=embed) for turn in conversation.turns],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load_conversation(path: str | Path, *, start: Callable[[str], Conversation]) -> Conversation:
    """A conversation from a file of `save_conversation`. start: system prompt -> a new conversation. A file of a model with
    another tokenizer is read by its texts, which is logged. Raises FileNotFoundError, InvalidOption naming the file and the
    turn, and what its media and the context raise."""
    require_path("path", path)
    path = user_path(path)
    content = _read(path)
    conversation = start(content["system_prompt"])
    tokenizer = conversation.prompter.tokenizer
    same = content.get("tokenizer") == tokenizer.fingerprint()
    if not same:
        log.warning("%s: saved with another tokenizer: the answers are read as text", path)
    turns = []
    for number, item in enumerate(content["turns"], start=1):
        try:
            turn = _turn_from_json(item)
            if not same:
                turn.ids = encode_answer(tokenizer, turn.text)
            if any(not len(PIECES) <= token < tokenizer.vocab_size for token in turn.ids):
                raise ValueError("its tokens are not of the vocabulary")
        except (ValueError, TypeError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InvalidOption(f"{path}: turn {number} is damaged: {reason}", param="path") from error
        turns.append(turn)
    conversation.restore(turns)
    return conversation


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no such conversation: {path}")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidOption(f"{path}: over {MAX_BYTES} bytes, no conversation", param="path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidOption(f"{path}: not a conversation: no JSON ({error})", param="path") from error
    if not isinstance(content, dict) or content.get("muomni") != MARK["muomni"]:
        raise InvalidOption(f"{path}: not a conversation that was saved by muomni", param="path")
    if content.get("version") != MARK["version"]:
        raise InvalidOption(f"{path}: of version {content.get('version')!r}, this muomni reads 1", param="path")
    if not isinstance(content.get("turns"), list) or not isinstance(content.get("system_prompt"), str):
        raise InvalidOption(f"{path}: damaged: 'turns' and 'system_prompt' are a list and a string", param="path")
    return content


def _is_conversation(path: Path) -> bool:
    try:
        _read(path)
    except ValueError:
        return False
    return True


def _turn_to_json(turn: Turn, media: Media, *, embed: bool) -> dict[str, Any]:
    request = turn.request
    content: dict[str, Any] = {name: value for name in PLAIN_FIELDS if (value := getattr(request, name))}
    for name, kind in (("images", "image"), ("audios", "audio")):
        if sources := getattr(request, name):
            content[name] = [_source_to_json(source, media, kind, embed=embed) for source in sources]
    if request.messages:
        content["messages"] = [_message_to_json(message, media, embed=embed) for message in request.messages]
    return content | {"max_new_tokens": turn.max_new_tokens, "answer": turn.text, "tokens": turn.ids}


def _message_to_json(message: Mapping[str, Any], media: Media, *, embed: bool) -> dict[str, Any]:
    if isinstance(message["content"], str):
        return dict(message)
    items = [
        dict(item) | {kind: _source_to_json(item[kind], media, kind, embed=embed)}
        if kind in ("image", "audio")
        else dict(item)
        for item in message["content"]
        for kind in (item["type"],)
    ]
    return dict(message) | {"content": items}


def _source_to_json(source: Any, media: Media, kind: str, *, embed: bool) -> dict[str, str]:
    source = in_memory(source, what=kind)
    if isinstance(source, str | Path):
        path = user_path(source).absolute()
        return {"data": _base64(path.read_bytes())} if embed else {"path": str(path)}
    if isinstance(source, MemoryFile):
        return {"data": _base64(source.getvalue())}
    if kind == "audio":
        return {"data": _base64(wav_bytes(media.waveform(source), media.require_hearing().mel.sample_rate))}
    buffer = io.BytesIO()
    pixels = as_pixels(source, matte=media.matte)
    Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(buffer, format="PNG")
    return {"data": _base64(buffer.getvalue())}


def _turn_from_json(item: Any) -> Turn:
    """Raises ValueError, TypeError or KeyError for what is no turn."""
    if not isinstance(item, dict):
        raise TypeError("an object is needed")
    known = {*PLAIN_FIELDS, "images", "audios", "messages", "max_new_tokens", "answer", "tokens"}
    if unknown := set(item) - known:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
    request = Request(
        images=[_source_from_json(source) for source in item.get("images", [])],
        audios=[_source_from_json(source) for source in item.get("audios", [])],
        messages=[_message_from_json(message) for message in item.get("messages", [])],
        **{name: item[name] for name in PLAIN_FIELDS if name in item},
    )
    tokens, limit = item["tokens"], item["max_new_tokens"]
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise TypeError("'tokens' are whole numbers")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise TypeError("'max_new_tokens' is a whole number, at least 1, or null")
    if not isinstance(item["answer"], str):
        raise TypeError("'answer' is a string")
    return Turn(request, max_new_tokens=limit, text=item["answer"], ids=tokens)


def _message_from_json(message: Any) -> Any:
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    items = [
        item | {kind: _source_from_json(item[kind]) for kind in ("image", "audio") if kind in item}
        for item in message["content"]
    ]
    return message | {"content": items}


def _source_from_json(source: Any) -> Path | MemoryFile:
    if isinstance(source, dict) and isinstance(source.get("path"), str):
        return Path(source["path"])
    if not isinstance(source, dict) or not isinstance(source.get("data"), str):
        raise TypeError('media are {"path": ...} or {"data": ...}')
    try:
        return MemoryFile(base64.b64decode(source["data"], validate=True), name="<embedded>")
    except binascii.Error as error:
        raise InvalidMedia(f"embedded media are no base64: {error}") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
