"""Images of writing with their text.

Legend: B batch, C characters, S image side.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.char_vocab import CharacterData
from datamodules.image_augment import ImageAugment
from datamodules.image_cache import ImageCache, drop_broken_images, image_cache
from datamodules.lazy_rows import column
from datamodules.manifests import Row, RowSet, keep_rows
from muomni.batch import OcrBatch
from muomni.frontends.char_vocab import encode_symbols
from muomni.frontends.image import ImageSpec
from muomni.special_tokens import BOS, EOS, IGNORE, PAD


@dataclass(eq=False)
class OcrSet(RowSet):
    """Rows of a manifest, augmented where they are trained on."""

    images: ImageCache
    augment: ImageAugment | None
    seed: int

    def item(self, index: int, epoch: int) -> tuple[Tensor, Row]:
        """Image `index`, (3, S, S) float32, and its row; its augmentation is a function of (seed, epoch, index)."""
        image = self.images[index]
        if self.augment is not None and epoch >= 0:
            image = self.augment(image, np.random.default_rng([self.seed, epoch, index]))
        return image, self.rows[index]


@dataclass(kw_only=True, eq=False, repr=False)
class OcrData(CharacterData):
    """Manifests of shape "ocr": {"image", "text"}.

    Args:
        image: the encoder's input (fit "letterbox" keeps the ends of a line). max_characters: of a text; a longer one is
            left out of training and counted, and an error in a test. memory_mb: for decoded images of a split.
        augment: of training images; None: as they are. characters: that the model writes (datamodules/char_vocab.py).
    """

    shape: ClassVar[str] = "ocr"
    image: ImageSpec
    max_characters: int
    memory_mb: int
    augment: ImageAugment | None

    def load(self, path: Path, split: str | None, *, phase: str) -> OcrSet:
        rows = self.spelled(self.read_rows(path, split, shape=self.shape, phase=phase))
        self.learn_characters(rows, phase=phase)
        self.check_characters(rows, what=str(path))
        fits = column(
            rows, "fits", lambda row: len(row["text"]) <= self.max_characters, dtype=bool, key=self.max_characters
        )
        remedy = "set backbone.ocr.max_characters"
        if not fits.any():
            raise ValueError(f"{path}: every text is longer than {self.max_characters}; {remedy}")
        if phase != "train" and not fits.all():
            long = rows[int(fits.argmin())]
            size = f"{len(long['text'])} characters, the model writes at most {self.max_characters}"
            raise ValueError(f"{path}: {long['id']}: {size}; {remedy}")
        why = f"longer than {self.max_characters} characters (backbone.ocr.max_characters)"
        rows = keep_rows(rows, fits, what=str(path), why=why)
        rows = drop_broken_images(rows, what=str(path))
        images = image_cache(rows, self.image, memory_mb=self.memory_mb, cache=self.cache)
        return OcrSet(rows, images, self.augment if phase == "train" else None, self.seed)

    def spell(self, text: str) -> str:
        """Letters with marks are one character where Unicode has one (NFC)."""
        return unicodedata.normalize("NFC", self.in_form(text))

    def metadata(self) -> dict[str, Any]:
        return {"image": self.image.metadata()}

    def collate(self, samples: Sequence[tuple[Tensor, Row]]) -> OcrBatch:
        """Pad texts on the right."""
        images, rows = zip(*samples, strict=True)
        symbols = [encode_symbols(row["text"], self.alphabet.characters) for row in rows]
        ids = [torch.tensor([BOS, *each]) for each in symbols]
        targets = [torch.tensor([*each, EOS]) for each in symbols]
        return OcrBatch(
            images=torch.stack(images),
            ids=pad_sequence(ids, batch_first=True, padding_value=PAD),
            targets=pad_sequence(targets, batch_first=True, padding_value=IGNORE),
            texts=[row["text"] for row in rows],
            paths=[row["image"] for row in rows],
            sample_ids=[str(row["id"]) for row in rows],
        )
