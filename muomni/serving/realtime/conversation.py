"""Turns of a realtime conversation, and the engine's messages made of them."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import torch
import torchaudio
from torch import Tensor

from muomni.inference.engine import Engine
from muomni.serving.errors import refused
from muomni.serving.media import decode_base64, decode_image_url, read_image_bytes
from muomni.serving.messages import alternating
from muomni.serving.realtime.schema import Item
from muomni.serving.settings import ServerSettings

MAX_TURNS, MAX_SAMPLES = 200, 600 * 16_000  # the oldest are forgotten: a context holds far less


@dataclass(slots=True)
class Turn:
    """role; content: items as clients see them; media: what the model gets in place of audio and images, by index: samples (N),
    or the bytes of an image file, which are far fewer than its pixels."""

    role: str
    content: list[dict[str, Any]]
    media: dict[int, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"item_{uuid.uuid4().hex[:24]}")
    status: str = "completed"
    samples: int = 0  # of an answer's speech, at its rate
    rate: int = 24_000

    def as_item(self) -> dict[str, Any]:
        """For the client, without media."""
        return {
            "id": self.id, "object": "realtime.item", "type": "message", "status": self.status, "role": self.role,
            "content": self.content,
        }  # fmt: skip

    def as_message(self) -> dict[str, Any]:
        """For the engine."""
        texts = [each.get("text") or each.get("transcript") or "" for each in self.content]
        if self.role != "user":
            return {"role": self.role, "content": "".join(texts)}
        items: list[dict[str, Any]] = []
        for index, each in enumerate(self.content):
            if each["type"] == "input_text":
                items.append({"type": "text", "text": texts[index]})
            elif each["type"] == "input_audio":
                items.append({"type": "audio", "audio": self.media[index]})
            else:
                items.append({"type": "image", "image": self.media[index]})
        return {"role": "user", "content": items}

    def truncate(self, milliseconds: int) -> None:
        """Keep of an answer what was heard: its text in proportion to its time, at the border of a word."""
        heard = milliseconds * self.rate / 1000
        if self.samples == 0 or heard >= self.samples:
            return
        for each in self.content:
            name = "transcript" if "transcript" in each else "text"
            text = each.get(name) or ""
            kept = text[: round(len(text) * heard / self.samples)]
            each[name] = kept if len(kept) == len(text) else kept.rpartition(" ")[0]


class Turns:
    """In order. The model is given the last that fit its context."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    def add(self, turn: Turn, *, after: str | None = None) -> str | None:
        """Append a turn, or put it after another ("root": first); returns the id before it. Raises ApiError."""
        if after == "root":
            place = 0
        else:
            place = len(self.turns) if after is None else self.index(after, param="previous_item_id") + 1
        self.turns.insert(place, turn)
        before = self.turns[place - 1].id if place else None
        while len(self.turns) > 1 and (len(self.turns) > MAX_TURNS or self._samples() > MAX_SAMPLES):
            del self.turns[0]
        return before

    @property
    def images(self) -> int:
        """In all turns."""
        return sum(isinstance(each, bytes) for turn in self.turns for each in turn.media.values())

    def _samples(self) -> int:
        """Of the recordings that are kept."""
        return sum(len(each) for turn in self.turns for each in turn.media.values() if isinstance(each, Tensor))

    def index(self, name: str, *, param: str = "item_id") -> int:
        """Raises ApiError for an unknown id."""
        for place, turn in enumerate(self.turns):
            if turn.id == name:
                return place
        raise refused(param, f"there is no item {name[:40]!r}")

    def messages(self, instructions: str, *, skip: int) -> list[dict[str, Any]]:
        """For the engine, without the first `skip` turns, from a user's turn on."""
        turns = [turn for turn in self.turns if turn.role != "system"][skip:]
        while turns and turns[0].role != "user":
            turns = turns[1:]
        system = [instructions, *(turn.as_message()["content"] for turn in self.turns if turn.role == "system")]
        text = "\n".join(each for each in system if each.strip())
        spoken = [turn.as_message() for turn in turns]
        spoken = [each for each in spoken if each["role"] == "user" or each["content"].strip()]
        return ([{"role": "system", "content": text}] if text else []) + alternating(spoken)


def read_item(item: Item, engine: Engine, settings: ServerSettings, *, rate: int) -> Turn:
    """A client's item as a turn. Raises ApiError naming the field."""
    turn = Turn(role=item.role, content=[])
    if item.id:
        turn.id = item.id
    for index, each in enumerate(item.content):
        param = f"item.content[{index}]"
        wanted = {"user": ("input_text", "input_audio", "input_image"), "system": ("input_text",)}
        if each.type not in wanted.get(item.role, ("output_text", "output_audio")):
            raise refused(f"{param}.type", f"{each.type} is no content of the role {item.role}")
        if each.type in ("input_text", "output_text"):
            if each.text is None:
                raise refused(f"{param}.text", "this field is required")
            turn.content.append({"type": each.type, "text": each.text})
        elif each.type == "input_image":
            if engine.media.image is None:
                raise refused(f"{param}.image_url", "this model reads no images")
            raw = decode_image_url(each.image_url or "", param=f"{param}.image_url")
            read_image_bytes(raw, settings, param=f"{param}.image_url")  # raises
            turn.media[index] = raw
            turn.content.append({"type": each.type})
        elif each.type == "input_audio":
            samples = decode_pcm16(each.audio or "", param=f"{param}.audio")
            turn.media[index] = for_encoder(samples, rate, engine)
            turn.content.append({"type": each.type, "transcript": each.transcript})
        else:
            turn.content.append({"type": each.type, "transcript": each.transcript or ""})
    return turn


def decode_pcm16(data: str, *, param: str) -> Tensor:
    """Base64 of PCM16 -> samples (N) in [-1, 1)."""
    raw = decode_base64(data, param=param)
    if len(raw) % 2:
        raise refused(param, "PCM16 has two bytes a sample; an odd number came")
    return torch.frombuffer(bytearray(raw), dtype=torch.int16).float() / 32768


def for_encoder(samples: Tensor, rate: int, engine: Engine) -> Tensor:
    """Samples (N) of a client -> at the encoder's rate."""
    wanted = engine.media.require_hearing().mel.sample_rate
    return torchaudio.functional.resample(samples, rate, wanted)
