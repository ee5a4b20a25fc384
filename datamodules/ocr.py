"""Pictures of writing with their text.

Legend: B batch, C characters, S image side.
"""

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.alphabet import Alphabet
from datamodules.base import DataModule
from datamodules.manifests import read_manifest
from datamodules.picture_augment import PictureAugment
from datamodules.pictures import PictureStore, without_broken_pictures
from muomni.batch import OcrBatch
from muomni.frontends.characters import encode_symbols
from muomni.frontends.image import ImageSpec
from muomni.special_tokens import BOS, EOS, IGNORE, PAD

log = logging.getLogger(__name__)


@dataclass(slots=True)
class OcrSample:
    """image (3, S, S) float32 and its text."""

    image: Tensor
    text: str
    path: str
    sample_id: str


class Writing:
    """Rows of a manifest, augmented where they are trained on."""

    def __init__(
        self, rows: list[dict[str, Any]], *, image: ImageSpec, memory_mb: int, augment: PictureAugment | None, seed: int
    ) -> None:
        self.rows, self.augment, self.seed = rows, augment, seed
        self.pictures = PictureStore([row["image"] for row in rows], image, memory_mb=memory_mb)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """The row's id."""
        return str(self.rows[index]["id"])

    def item(self, index: int, epoch: int) -> OcrSample:
        """Picture `index`; its augmentation is a function of (seed, epoch, index)."""
        row, image = self.rows[index], self.pictures[index]
        if self.augment is not None and epoch >= 0:
            image = self.augment(image, np.random.default_rng([self.seed, epoch, index]))
        return OcrSample(image=image, text=row["text"], path=row["image"], sample_id=str(row["id"]))


class OcrData(DataModule):
    """Manifests of shape "ocr": {"image", "text"}.

    Args:
        image: what the encoder sees (fit "letterbox" keeps the ends of a line). max_characters: of a text; a longer one is
            left out of training and counted, and an error in a test. memory_mb: for decoded pictures of a split.
        augment: of training pictures; None: as they are. characters: that the model writes (datamodules/alphabet.py).
    """

    def __init__(
        self,
        *,
        image: ImageSpec,
        max_characters: int,
        memory_mb: int,
        augment: PictureAugment | None,
        characters: str | None = None,
        **loaders: Any,
    ) -> None:
        super().__init__(**loaders)
        self.alphabet = Alphabet(characters)
        self.image, self.max_characters, self.memory_mb, self.augment = image, max_characters, memory_mb, augment

    def load(self, path: Path, split: str | None, *, train: bool) -> Writing:
        """Read a manifest; its pictures are checked now, and decoded when they are drawn."""
        rows = read_manifest(path, shape="ocr", split=split, root=self.root)
        for row in rows:
            row["text"] = unicodedata.normalize("NFC", row["text"])
        self._learn_characters(rows, train=train)
        self.alphabet.check((row["text"] for row in rows), what=str(path))
        long = [row for row in rows if len(row["text"]) > self.max_characters]
        if long and not train:
            raise ValueError(
                f"{path}: {long[0]['id']}: {len(long[0]['text'])} characters, the model writes at most "
                f"{self.max_characters}; set backbone.ocr.max_characters"
            )
        if long:
            log.warning(
                "%s: %d of %d texts are longer than %d: left out", path, len(long), len(rows), self.max_characters
            )
        rows = [row for row in rows if len(row["text"]) <= self.max_characters]
        if not rows:
            raise ValueError(
                f"{path}: every text is longer than {self.max_characters}; set backbone.ocr.max_characters"
            )
        return Writing(
            without_broken_pictures(rows, what=str(path)), image=self.image, memory_mb=self.memory_mb,
            augment=self.augment if train else None, seed=self.seed,
        )  # fmt: skip

    def _learn_characters(self, rows: list[dict[str, Any]], *, train: bool) -> None:
        """Where characters=data asks for it, from the training manifest, of which these rows may be."""
        if self.alphabet.unknown and self.train_path is not None and not train:
            rows = read_manifest(self.train_path, shape="ocr", split=self.splits.get("train"), root=self.root)
        self.alphabet.learn(unicodedata.normalize("NFC", row["text"]) for row in rows)

    @property
    def characters(self) -> str | None:
        """What the model is built with; None: the standard ones."""
        return self.alphabet.characters

    def read(self, task: str) -> None:
        """As the base has it. Raises ValueError where over 1 % of the characters to train with cannot be written."""
        super().read(task)
        if task == "fit":
            self.alphabet.refuse()

    def facts(self) -> dict[str, Any]:
        """The frontend's spec."""
        return {"image": self.image.facts()}

    def collate(self, samples: Sequence[OcrSample]) -> OcrBatch:
        """Pad texts on the right."""
        symbols = [encode_symbols(sample.text, self.alphabet.characters) for sample in samples]
        ids = [torch.tensor([BOS, *each]) for each in symbols]
        targets = [torch.tensor([*each, EOS]) for each in symbols]
        return OcrBatch(
            images=torch.stack([sample.image for sample in samples]),
            ids=pad_sequence(ids, batch_first=True, padding_value=PAD),
            targets=pad_sequence(targets, batch_first=True, padding_value=IGNORE),
            texts=[sample.text for sample in samples],
            paths=[sample.path for sample in samples],
            sample_ids=[sample.sample_id for sample in samples],
        )
