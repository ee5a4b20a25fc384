"""What every datamodule shares: loaders over resumable orders, test splits by name.

A subclass gives `load(path, split, train)` -> a `SampleSet` and `collate(samples)` -> a batch of muomni/batch.py.
"""

import functools
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule

from datamodules.accumulation import Windows
from datamodules.batch_sampler import ResumableBatchSampler
from datamodules.fault_tolerant_loader import Loader, SampleReader, SampleSet, begin_work, collate_read
from datamodules.fingerprint import changes, digests
from datamodules.manifests import MAX_BAD_SHARE, log_skipped

log = logging.getLogger(__name__)

MAX_WORKERS = 4  # of a loader, each with a copy of what the samples keep in memory


class DataModule(LightningDataModule):
    """Train, validation and test loaders.

    Args:
        train, val: manifests (None: that task is refused). test: split name -> manifest.
        splits: {"train": .., "val": .., "test": ..}: keep only rows with that "split" field; None keeps all.
        root: folder of the manifests' media paths; None: each manifest's own.
        batch_size: samples of a step, of all processes together. eval_batch_size, num_workers (None: `usual_workers`), seed: of
            the loaders of each.
        batch_tokens: the most tokens (frames of speech) of a training batch, padding included: where long samples meet,
            fewer than `batch_size` share it. For batches of similar lengths; None: `batch_size` alone counts.
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
        num_workers: int | None,
        seed: int,
        batch_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.train_path, self.val_path, self.test_paths = train, val, dict(test)
        self.splits, self.root = dict(splits or {}), root
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed, self.batch_tokens = num_workers, seed, batch_tokens
        self.order: ResumableBatchSampler | None = None
        self._sets: dict[str, SampleSet] = {}
        self._restored: dict[str, Any] | None = None
        self._data: dict[str, Any] | None = None
        self.broken: dict[str, dict[int, str]] = {}
        """Samples that could not be read, by kind: index -> name and reason."""
        self.readers: list[SampleReader] = []
        self.spare: set[str] = set()
        """Held-out splits, by kind, of which this process has no share: what its loader gives does not count."""

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
        """Read what the task "fit", "validate" or "test" needs, so that caches are there when several processes ask. The
        tests of a training are read before it: what is wrong with them is not found out hours later."""
        tests = tuple(f"test/{name}" for name in self.test_splits)
        kinds = {"fit": ("train", "val", *tests), "validate": ("val",), "test": tests}
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

    def train_dataloader(self) -> Loader:
        """Endless by epochs; position and order are the ResumableBatchSampler's."""
        if self.order is None:
            rank, ranks = self._place()
            only = self.trainer.overfit_batches if self.trainer else 0  # type: ignore[attr-defined]
            self.order = self._new_order(rank, ranks, only=only)
            count = len(self.samples("train"))
            over = 0 if only else count - int(self.order.batches(0)[1][-1])
            if over > MAX_BAD_SHARE * count:
                why = "they do not fill a batch (in each epoch others)"
                log_skipped(over, count, what="train", why=why)
            if self._restored is not None:
                self.order.load_state_dict(self._restored)
        return self._loader("train", self.collate_train, self.order, windows=self._windows())

    def _new_order(self, rank: int, ranks: int, *, only: float = 0) -> ResumableBatchSampler:
        """From its beginning. only: so many batches (a share of them, if below 1) again and again; 0: all."""
        samples = self.samples("train")
        order = ResumableBatchSampler(
            len(samples),
            batch_size=self.batch_size,
            seed=self.seed,
            lengths=self.lengths(samples),
            budget=self.batch_tokens,
            groups=self.groups(samples),
            first=self.first(samples),
            rank=rank,
            ranks=ranks,
        )
        if only:
            order.repeat(limit_batches(len(order), only))
        return order

    def steps_in(self, epochs: int, *, accumulate: int, limit: float | None, only: float, ranks: int) -> int:
        """Optimizer steps of so many of the trainer's epochs, which have at most `limit` batches (a share of them, if it is
        no whole number)."""
        order = self._new_order(0, ranks, only=only)
        most = limit_batches(len(order), only or (1.0 if limit is None else limit))
        steps, epoch, left = 0, -1, 0
        for _ in range(epochs):
            if not left:
                epoch += 1
                left = len(order) if self.batch_tokens is None else len(order.batches(epoch)[0])
            run = min(most, left)
            steps, left = steps + math.ceil(run / accumulate), left - run
        return steps

    def _windows(self) -> Windows | None:
        """Batches that share an optimizer step, where several do."""
        if self.trainer is None or self.trainer.accumulate_grad_batches == 1:
            return None
        assert self.order is not None
        trainer, limit = self.trainer, self.trainer.limit_train_batches
        most = limit_batches(len(self.order), limit)

        def done() -> int:
            """Batches of this epoch that are over; none where Lightning is about to begin another."""
            ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            return ready if ready < most else 0

        stage: Any = trainer.lightning_module
        return Windows(trainer.accumulate_grad_batches, most, done, stage.counts)

    def val_dataloader(self) -> Loader:
        """Held-out data while training."""
        return self._held_out("val", self.trainer.limit_val_batches if self.trainer else None)

    def test_dataloader(self) -> list[Loader]:
        """One loader a split."""
        limit = self.trainer.limit_test_batches if self.trainer else None
        return [self._held_out(f"test/{name}", limit) for name in self.test_splits]

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _held_out(self, kind: str, limit: float | None) -> Loader:
        """Batches of a held-out split in order, the first `limit` of them where that is a whole number. Each of several
        processes takes its own run of them: whole batches, so that what is measured is what one process measures."""
        indices = list(range(len(self.samples(kind))))
        size = self.eval_batch_size
        batches = [indices[start : start + size] for start in range(0, len(indices), size)]
        if isinstance(limit, int):
            batches = batches[:limit]
            over = len(indices) - sum(map(len, batches))
            task = "test" if kind.startswith("test/") else kind
            why = f"only the first are measured (trainer.limit_{task}_batches={limit})"
            log_skipped(over, len(indices), what=kind, why=why)
        rank, ranks = self._place()
        share = batches[len(batches) * rank // ranks : len(batches) * (rank + 1) // ranks]
        if not share:  # Lightning leaves a process without batches behind, and the others wait for it
            self.spare.add(kind)
        return self._loader(kind, self.collate, share or batches[:1])

    def _loader(
        self, kind: str, collate: Callable[[Sequence[Any]], Any], batches: Any, *, windows: Windows | None = None
    ) -> Loader:
        on_gpu = bool(self.trainer and self.trainer.strategy.root_device.type == "cuda")
        workers = usual_workers(on_gpu=on_gpu) if self.num_workers is None else self.num_workers
        reader = SampleReader(self.samples(kind), broken=self.broken.setdefault(kind, {}), workers=workers)
        self.readers.append(reader)
        return Loader(
            reader,
            windows=windows,
            batch_sampler=batches,
            collate_fn=functools.partial(collate_read, collate),
            num_workers=workers,
            worker_init_fn=begin_work,
            persistent_workers=on_gpu and workers > 0 and kind in ("train", "val"),
            generator=torch.Generator(),  # a loader draws a number whenever it starts: not from the generator of training
            pin_memory=on_gpu,
        )

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a typed batch."""
        return batch.to(device)

    def count_batch(self) -> None:
        """Called by the resume callback after every training batch."""
        if self.order is not None:
            self.order.count_batch()

    def data(self) -> dict[str, Any]:
        """What a run is trained on (fingerprint.py)."""
        if self._data is None:
            paths = {"train": self.train_path, "val": self.val_path, "replay": getattr(self, "replay_path", None)}
            self._data = {"files": digests(paths), "samples": len(self.samples("train")), "seed": self.seed}
        return self._data

    def check_data(self, checkpoint: Mapping[str, Any], *, path: str, named: bool) -> None:
        """The data must be that of the run that a checkpoint belongs to; where the user named the checkpoint, other data is
        said and trained on from its beginning. Raises ValueError."""
        state = checkpoint.get(type(self).__qualname__) or {}
        changed = changes(state.get("data", {}), self.data())
        if changed is None:
            return
        if not named:
            raise ValueError(
                f"the data has changed since this run began ({changed}): resume=never begins a new run, resume={path} goes "
                "on from this one's weights with the new data, and with the old data back the same command goes on"
            )
        log.warning(
            "resume=%s: its run had other data (%s); going on with the new data from the begin of an epoch",
            path,
            changed,
        )

    def state_dict(self) -> dict[str, Any]:
        """Position in the data and what data it is, kept in the checkpoint."""
        return {**self.order.state_dict(), "data": self.data()} if self.order is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to that position when the loader is made; in other data to the begin of the next epoch."""
        self._restored = state_dict or None
        if state_dict and changes(state_dict.get("data", {}), self.data()) is not None:
            self._restored = {"epoch": state_dict["epoch"] + 1, "consumed": 0}


def limit_batches(count: int, limit: float) -> int:
    """Lightning's limits: so many of `count` batches, or a share of them."""
    return min(count, limit) if isinstance(limit, int) else max(1, int(count * limit))


def usual_workers(*, on_gpu: bool) -> int:
    """Workers of a loader: on a CPU none, since they would take its cores from training; on a GPU up to `MAX_WORKERS` of the
    cores that each of the machine's processes has, one left to itself."""
    if not on_gpu:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MAX_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))
