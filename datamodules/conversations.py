"""Conversations as token sequences with their media: what a training of instructions draws.

Legend: T tokens, F mel frames, M mel bins, S image side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.conditions import FixedConditions
from datamodules.file_formats import read_entries
from datamodules.image_cache import ImageCache
from datamodules.manifests import label
from datamodules.mel_cache import MelCache
from muomni.frontends.chat import text_of


@dataclass(slots=True)
class OmniSample:
    """ids, targets (T); parts (T) or None (`encode_apart`); images (3, S, S) and mels (F, M) in the order of their slots;
    row: of the manifest."""

    ids: Tensor
    targets: Tensor
    parts: Tensor | None
    images: list[Tensor]
    mels: list[Tensor]
    image_keys: list[str]
    audio_keys: list[str]
    question: str
    row: dict[str, Any]


class Conversations:
    """Rows of a manifest as token sequences; media are read when they are drawn.

    Args:
        sequences: (ids, targets) of each row. parts: row -> parts, where it has some. media: (images, audios), a row's
            paths, as the messages have them.
        pictures, mels: stores of all media, by `image_place`, `audio_place`: path -> index.
        audio_mark: goes behind the path in a sound's key, where it is not what the file holds.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        sequences: list[tuple[Tensor, Tensor]],
        media: list[tuple[list[str], list[str]]],
        *,
        parts: Mapping[int, Tensor],
        pictures: ImageCache,
        mels: MelCache | FixedConditions | None,
        audio_place: Mapping[str, int],
        audio_mark: str = "",
    ) -> None:
        self.parts = parts
        self.rows, self.sequences, self.media = rows, sequences, media
        self.pictures, self.mels, self.audio_place = pictures, mels, audio_place
        self.audio_mark = audio_mark
        self.image_place = {path: index for index, path in enumerate(pictures.paths)}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, media slots included."""
        return np.array([len(ids) for ids, _ in self.sequences])

    def name(self, index: int) -> str:
        """The row's id."""
        return str(self.rows[index]["id"])

    def item(self, index: int, epoch: int) -> OmniSample:
        """Row `index`; the same in every epoch."""
        (ids, targets), (images, audios) = self.sequences[index], self.media[index]
        row = self.rows[index]
        assert self.mels is not None or not audios
        return OmniSample(
            ids=ids,
            targets=targets,
            parts=self.parts.get(index),
            images=[self.pictures[self.image_place[path]] for path in images],
            mels=[torch.from_numpy(self.mels[self.audio_place[path]]) for path in audios],  # type: ignore[index]
            image_keys=images,
            audio_keys=[path + self.audio_mark for path in audios],
            question=text_of(row["messages"][-2]) if "messages" in row else row["prompt"],
            row=row,
        )


def answer_of(row: Mapping[str, Any]) -> str:
    """What the assistant's last turn says."""
    return row["answer"] if "messages" not in row else text_of(row["messages"][-1])


def asks_plainly(path: Path) -> bool:
    """Whether a manifest's first row is a text question rather than a conversation."""
    if not path.is_file():
        return False
    _, row = next(read_entries(path, shape="text"), (0, {}))
    return isinstance(row, dict) and "prompt" in row and "messages" not in row


def meta_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row's `meta` says that metrics read; a user's own `meta` may be anything, and what is of another kind is left out.

    question: kind of the question. pair: of complementary questions. typed: id of the same question typed. spoken: the question
    of a recording. objects: of a picture, each with its "shape".
    """
    meta = row.get("meta")
    if not isinstance(meta, dict):
        return {}
    found: dict[str, Any] = {
        key: value for key in ("pair", "typed", "spoken") if isinstance(value := meta.get(key), str | int)
    }
    question, objects = label(meta, "question", ""), meta.get("objects")
    if question:
        found["question"] = question
    if isinstance(objects, list) and all(isinstance(each, dict) and "shape" in each for each in objects):
        found["objects"] = objects
    return found


def branch_positions(parts: Tensor) -> Tensor:
    """parts (T) of a sample -> positions (T): each part goes on behind part 0."""
    shared = int((parts == 0).sum())
    counts = torch.bincount(parts)[1:].tolist()
    return torch.cat([torch.arange(shared), *(shared + torch.arange(count) for count in counts)])
