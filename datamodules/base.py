"""What every datamodule shares: loaders over resumable orders, test splits by name.

A subclass gives `load(path, split, train)` -> a `SampleSet` and `collate(samples)` -> a batch of muomni/batch.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from datamodules.order import BatchOrder, Draw


class SampleSet(Protocol):
    """Samples by index; `item(index, epoch)` may augment as a function of its arguments alone."""

    def __len__(self) -> int: ...

    def item(self, index: int, epoch: int) -> Any:
        """The sample `index` as drawn in `epoch`; epoch -1 means: as it is, no augmentation."""
        ...


class _Drawn(Dataset[Any]):
    """Adapts a SampleSet to a loader whose sampler gives Draws."""

    def __init__(self, samples: SampleSet) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Any:
        if isinstance(draw, Draw):
            return self.samples.item(draw.index, draw.epoch)
        return self.samples.item(draw, -1)


class DataModule(LightningDataModule):
    """Train, validation and test loaders.

    Args:
        train, val: manifests (None: that task is refused). test: split name -> manifest.
        splits: {"train": .., "val": .., "test": ..}: keep only rows with that "split" field; None keeps all.
        root: folder of the manifests' media paths; None: each manifest's own.
        batch_size: samples of a step, of all processes together. eval_batch_size, num_workers, seed: of the loaders of each.
    """

    def __init__(
        self,
        *,
        train: str | None,
        val: str | None,
        test: Mapping[str, str],
        splits: Mapping[str, str | None] | None = None,
        root: str | None = None,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.train_path, self.val_path, self.test_paths = train, val, dict(test)
        self.splits, self.root = dict(splits or {}), root
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.order: BatchOrder | None = None
        self._sets: dict[str, SampleSet] = {}
        self._restored: dict[str, Any] | None = None

    # --- what a subclass gives -----------------------------------------------------------------------------------

    def load(self, path: Path, split: str | None, *, train: bool) -> SampleSet:
        """Read a manifest; `train` says whether its items are augmented."""
        raise TypeError(f"{type(self).__name__} does not define load")

    def collate(self, samples: Sequence[Any]) -> Any:
        """Samples -> one batch."""
        raise TypeError(f"{type(self).__name__} does not define collate")

    def collate_train(self, samples: Sequence[Any]) -> Any:
        """Samples -> one batch to train on; as any other unless a subclass packs them."""
        return self.collate(samples)

    def lengths(self, samples: Any) -> np.ndarray | None:
        """Length of each training sample, for batches of similar lengths; None: no bucketing."""
        return None

    def groups(self, samples: Any) -> list[list[int]] | None:
        """Training samples that stay together in a batch; None: each alone."""
        return None

    def facts(self) -> dict[str, Any]:
        """Keyword arguments that the stage's constructor takes from its data: tokenizer, frontends."""
        return {}

    def first(self, samples: Any) -> np.ndarray | None:
        """Training samples that open the first epoch (True), a curriculum; None: no such."""
        return None

    # --- what they share -----------------------------------------------------------------------------------------

    @property
    def test_splits(self) -> list[str]:
        """Names of the test splits, in the order of the loaders."""
        return list(self.test_paths)

    def read(self, task: str) -> None:
        """Read what the task "fit", "validate" or "test" needs, so that caches are there when several processes ask."""
        kinds = {"fit": ("train", "val"), "validate": ("val",), "test": tuple(f"test/{n}" for n in self.test_splits)}
        for kind in kinds[task]:
            self.samples(kind)

    def samples(self, kind: str) -> SampleSet:
        """The samples of "train", "val" or "test/<name>", read once."""
        if kind not in self._sets:
            name = kind.removeprefix("test/")
            path = self.test_paths[name] if kind.startswith("test/") else getattr(self, f"{kind}_path")
            if path is None:
                raise ValueError(f"no {kind} data: give data.{kind}=PATH")
            split = self.splits.get("test" if kind.startswith("test/") else kind)
            self._sets[kind] = self.load(Path(path), split, train=kind == "train")
        return self._sets[kind]

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless by epochs; position and order are the BatchOrder's."""
        samples = self.samples("train")
        if self.order is None:
            trainer = self.trainer
            self.order = BatchOrder(
                len(samples),
                batch_size=self.batch_size,
                seed=self.seed,
                lengths=self.lengths(samples),
                groups=self.groups(samples),
                first=self.first(samples),
                rank=trainer.global_rank if trainer else 0,
                ranks=trainer.world_size if trainer else 1,
            )
            if self._restored is not None:
                self.order.load_state_dict(self._restored)
        return self._loader(samples, self.collate_train, batch_sampler=self.order)

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out data while training."""
        return self._loader(self.samples("val"), self.collate, batch_size=self.eval_batch_size)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader a split."""
        return [
            self._loader(self.samples(f"test/{name}"), self.collate, batch_size=self.eval_batch_size)
            for name in self.test_splits
        ]

    def _loader(self, samples: SampleSet, collate: Callable[[Sequence[Any]], Any], **how: Any) -> DataLoader[Any]:
        return DataLoader(
            _Drawn(samples),
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=False,
            generator=torch.Generator(),  # a loader draws a number whenever it starts: not from the generator of training
            pin_memory=bool(self.trainer and self.trainer.strategy.root_device.type == "cuda"),
            **how,
        )

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a typed batch."""
        return batch.to(device)

    def count_batch(self) -> None:
        """Called by the resume callback after every training batch."""
        if self.order is not None:
            self.order.count_batch()

    def state_dict(self) -> dict[str, Any]:
        """Position in the data, kept in the checkpoint."""
        return self.order.state_dict() if self.order is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to that position when the loader is made."""
        self._restored = state_dict or None
