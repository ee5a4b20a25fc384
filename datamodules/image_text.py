"""Images with captions, for contrastive training.

Legend: B batch, T tokens, S image side.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.base import DataModule
from datamodules.image_batch_augment import ImageBatchAugment
from datamodules.image_cache import ImageCache, drop_broken_images, image_cache
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, RowSet, first_rows
from datamodules.tokenizer_cache import tokenizer_for
from muomni.batch import ImageTextBatch
from muomni.frontends.image import ImageSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import PAD

log = logging.getLogger(__name__)

CELLS = 9  # of the world's images


@dataclass(slots=True)
class ImageTextSample:
    """image (3, S, S) float32; ids (T) of one of its captions; its row of the manifest; group: id of the first of its twins;
    (index, epoch) decide its augmentation."""

    image: Tensor
    ids: list[int]
    caption: str
    row: Row
    group: str
    index: int
    epoch: int


def located_objects(objects: Any) -> list[dict[str, Any]]:
    """A row's objects if it names the cell of the image that each is in, as the world does; otherwise none (others count them,
    for instance). Only texts describe them."""
    return [
        {key: value for key, value in thing.items() if key == "cell" or isinstance(value, str)}
        for thing in (objects if isinstance(objects, list) else [])
        if isinstance(thing, dict) and type(thing.get("cell")) is int and 0 <= thing["cell"] < CELLS
    ]


def twins(rows: Sequence[Row]) -> list[list[int]]:
    """Rows in groups: each with its twin (the row whose id its "twin" names, and that names it), or alone; every row is in
    one, also where ids occur twice."""
    index_of = {str(row["id"]): index for index, row in enumerate(rows)}
    groups: list[list[int]] = []
    taken: set[int] = set()
    for index, row in enumerate(rows):
        if index in taken:
            continue
        other = index_of.get(str(row.get("twin")), index)
        mutual = str(rows[other].get("twin")) == str(row["id"])
        group = [index, other] if mutual and other != index and other not in taken else [index]
        groups.append(group)
        taken.update(group)
    return groups


class CaptionedImages(RowSet):
    """Rows of a manifest; training draws one of an image's captions as a function of (seed, epoch, index), everything else
    reads the first. Captions of rows that stay on the disk are encoded when they are drawn, and no such row has a twin."""

    def __init__(
        self, rows: Sequence[Row], *, tokenizer: Tokenizer, images: ImageCache, max_length: int, seed: int
    ) -> None:
        super().__init__(rows)
        self.images, self.seed = images, seed
        self.tokenizer, self.max_length = tokenizer, max_length
        self.group: dict[int, str] = {}
        self.ids: list[list[list[int]]] | None = None
        if isinstance(rows, LazyRows):
            return
        self.group = {index: str(rows[each[0]]["id"]) for each in twins(rows) for index in each}
        whole = [[tokenizer.encode(caption) for caption in row["captions"]] for row in rows]
        self.ids = [[ids[:max_length] for ids in each] for each in whole]
        cut = sum(len(ids) > max_length for each in whole for ids in each)
        if cut:
            log.warning("%d of %d captions are longer than %d tokens: cut", cut, sum(map(len, whole)), max_length)

    def item(self, index: int, epoch: int) -> ImageTextSample:
        row = self.rows[index]
        count = len(row["captions"])
        which = 0 if epoch < 0 else int(np.random.default_rng([self.seed, epoch, index]).integers(count))
        if self.ids is None:
            ids = self.tokenizer.encode(row["captions"][which])[: self.max_length]
        else:
            ids = self.ids[index][which]
        return ImageTextSample(
            image=self.images[index],
            ids=ids,
            caption=row["captions"][which],
            row=row,
            group=self.group.get(index) or str(row["id"]),
            index=index,
            epoch=epoch,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class ImageTextData(DataModule):
    """Image-caption manifests.

    Args:
        image: the encoder's input.
        tokenizer: path of a SentencePiece model; None: one of `vocab_size` pieces at most is trained on the manifest `text`
            (the captions, where that is None) and kept under `tokenizer_root`.
        max_length: longest caption in tokens; of longer ones the rest is cut off, and said.
        memory_mb: for decoded images of a split.
        probe_pictures: of a held-out split that reads the training manifest again (to fit the probes), use only so many;
            None: all.
        augment: of the images of training batches; None: as they are.
    """

    image: ImageSpec
    tokenizer: Any
    vocab_size: int
    tokenizer_root: str
    max_length: int
    memory_mb: int
    probe_pictures: int | None
    text: str | None = None
    augment: ImageBatchAugment | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tokenizer_path = tokenizer_for(
            self.tokenizer,
            text=self.text or self.train_files,
            vocab_size=self.vocab_size,
            root=Path(self.tokenizer_root),
            shape="image_text" if self.text is None else "text",
            exact=False,
            form=self.text_form,
            cache=self.cache,
        )
        self.tokenizer = Tokenizer.load(self.tokenizer_path).with_form(self.text_form)

    def load(self, path: Path, split: str | None, *, phase: str) -> CaptionedImages:
        rows = self.read_rows(path, split, shape="image_text", phase=phase)
        again = self.train is not None and path == Path(self.train) and split == self._row_split("train")
        if again and phase != "train":
            why = f"datamodule.probe_pictures={self.probe_pictures} are enough of the training pictures seen again"
            rows = first_rows(rows, self.probe_pictures, what=str(path), why=why)
        rows = drop_broken_images(rows, what=str(path))
        if phase != "train" and not isinstance(rows, LazyRows):  # retrieval ranks neighbours
            rows = [rows[index] for group in twins(rows) for index in group]
        images = image_cache(rows, self.image, memory_mb=self.memory_mb, cache=self.cache)
        return CaptionedImages(
            rows, tokenizer=self.tokenizer, images=images, max_length=self.max_length, seed=self.seed
        )

    def groups(self, samples: CaptionedImages) -> list[list[int]] | None:
        """An image and its twin come in the same batch: the hardest negatives."""
        return None if isinstance(samples.rows, LazyRows) else twins(samples.rows)

    def metadata(self) -> dict[str, Any]:
        return {
            "image": self.image.metadata(),
            "tokenizer": self.tokenizer_path,
            "tokenizer_fingerprint": self.tokenizer.fingerprint(),
        }

    def collate_train(self, samples: Sequence[ImageTextSample]) -> ImageTextBatch:
        """A batch whose images are augmented."""
        batch = self.collate(samples)
        if self.augment is not None:
            epochs, indices = [sample.epoch for sample in samples], [sample.index for sample in samples]
            batch.images = self.augment(batch.images, seed=self.seed, epochs=epochs, indices=indices)
        return batch

    def collate(self, samples: Sequence[ImageTextSample]) -> ImageTextBatch:
        """Pad captions on the right."""
        ids = [torch.tensor(sample.ids, dtype=torch.long) for sample in samples]
        return ImageTextBatch(
            images=torch.stack([sample.image for sample in samples]),
            ids=pad_sequence(ids, batch_first=True, padding_value=PAD),
            lengths=torch.tensor([len(sample.ids) for sample in samples]),
            captions=[sample.caption for sample in samples],
            paths=[sample.row["image"] for sample in samples],
            objects=[located_objects(sample.row.get("objects")) for sample in samples],
            sample_ids=[str(sample.row["id"]) for sample in samples],
            groups=[sample.group for sample in samples],
        )
