"""Conversations as token sequences with their media: the samples of instruction tuning.

Legend: T tokens, F mel frames, M mel bins, S image side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.conditions import FixedConditions
from datamodules.formats import Reading, read_entries
from datamodules.image_cache import ImageCache
from datamodules.manifests import RowSet, label
from datamodules.media import Media
from datamodules.mel_cache import MelCache
from muomni.frontends.chat import text_of


@dataclass(slots=True)
class OmniSample:
    """ids, targets (T); branches (T) or None (`encode_branches`); images (3, S, S) and mels (F, M) in the order of their
    slots; row: of the manifest."""

    ids: Tensor
    targets: Tensor
    branches: Tensor | None
    images: list[Tensor]
    mels: list[Tensor]
    image_keys: list[Media]
    audio_keys: list[Media]
    question: str
    row: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class Conversations(RowSet):
    """Rows of a manifest as token sequences; media are read when they are drawn.

    Args:
        sequences: (ids, targets) of each row. media: (images, audios) of a row, as the messages have them.
        branches: row -> branches, for rows that have some. images, mels: caches of all media. mel_index: recording ->
            index of its mel.
        audio_mark: appended to the name in an audio's key, where the audio is not what the file holds.
    """

    sequences: list[tuple[Tensor, Tensor]]
    media: list[tuple[list[Media], list[Media]]]
    images: ImageCache
    branches: Mapping[int, Tensor] = field(default_factory=dict)
    mels: MelCache | FixedConditions | None = None
    mel_index: Mapping[Media, int] = field(default_factory=dict)
    audio_mark: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_index = {image: index for index, image in enumerate(self.images.images)}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, media slots included."""
        return np.array([len(ids) for ids, _ in self.sequences])

    def item(self, index: int, epoch: int) -> OmniSample:
        (ids, targets), (images, audios) = self.sequences[index], self.media[index]
        row = self.rows[index]
        assert self.mels is not None or not audios
        return OmniSample(
            ids=ids,
            targets=targets,
            branches=self.branches.get(index),
            images=[self.images[self.image_index[image]] for image in images],
            mels=[torch.from_numpy(self.mels[self.mel_index[audio]]) for audio in audios],  # type: ignore[index]
            image_keys=images,
            audio_keys=[f"{each}{self.audio_mark}" if self.audio_mark else each for each in audios],
            question=text_of(row["messages"][-2]) if "messages" in row else row["prompt"],
            row=row,
        )


def answer_of(row: Mapping[str, Any]) -> str:
    """Text of the assistant's last turn."""
    return row["answer"] if "messages" not in row else text_of(row["messages"][-1])


def is_plain_text(path: Path, reading: Reading) -> bool:
    """True if a manifest's first row is a text question rather than a conversation."""
    row = next(read_entries(path, shape="text", reading=reading), (0, {}))[1] if path.is_file() else {}
    return isinstance(row, dict) and "prompt" in row and "messages" not in row


def meta_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a row's `meta` that metrics read; a user's own `meta` may be anything, and values of other types are left out.

    question: its type. pair: of complementary questions. typed: id of the same question typed. spoken: the question of a
    recording. objects: of an image, each with its "shape".
    """
    meta = row.get("meta")
    if not isinstance(meta, dict):
        return {}
    found: dict[str, Any] = {
        key: meta[key] for key in ("pair", "typed", "spoken") if isinstance(meta.get(key), str | int)
    }
    question, objects = label(meta, "question", ""), meta.get("objects")
    if question:
        found["question"] = question
    if isinstance(objects, list) and all(isinstance(each, dict) and "shape" in each for each in objects):
        found["objects"] = objects
    return found


def branch_positions(branches: Tensor) -> Tensor:
    """branches (T) of a sample -> positions (T): each branch continues after branch 0."""
    shared = int((branches == 0).sum())
    counts = torch.bincount(branches)[1:].tolist()
    return torch.cat([torch.arange(shared), *(shared + torch.arange(count) for count in counts)])
