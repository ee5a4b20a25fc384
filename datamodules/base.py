"""What every datamodule shares: loaders over a resumable order of samples, test splits by name.

A subclass defines `load(path, split, phase)` -> a `SampleSet` and `collate(samples)` -> a batch of muomni/batch.py; its options
are dataclass fields, under the names of the configuration.
"""

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule

from datamodules.accumulation import Windows, limit_batches, windows_of
from datamodules.batch_sampler import ResumableBatchSampler
from datamodules.data_sets import Concatenation, DataSet, check_paths, fingerprint_paths, mixture_sampler, read_sets
from datamodules.fault_tolerant_loader import Loader, SampleReader, SampleSet, begin_work, collate_read, usual_workers
from datamodules.fingerprint import changes, digests, refuse_other_data
from datamodules.formats import Reading
from datamodules.held_out import reads_training_rows
from datamodules.manifests import MAX_BAD_SHARE, Row, TextFile, log_skipped, read_manifest
from muomni.frontends.text_form import form_named

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class DataModule(LightningDataModule):
    """Train, validation and test loaders.

    Args:
        train, val: manifests (None: that task is refused). test: split name -> manifest.
        splits: {"train": .., "val": .., "test": ..}: keep only rows with that "split" field; None keeps all.
        root: folder of the manifests' media paths; None: each manifest's own. reading: how they are read.
        batch_size: samples of a step, of all processes together. eval_batch_size, num_workers (None: `usual_workers`), seed: of
            the loaders of each.
        batch_tokens: the most tokens (frames of speech) of a training batch, padding included: where long samples meet,
            fewer than `batch_size` share it. For batches of similar lengths; None: `batch_size` alone counts.
        text_form: how texts are written (muomni/frontends/text_form.py); None: as each datamodule does without.
        sets: data sets that are trained on together, in place of `train` and, if any of them has one, of `val`.
        cache: folder of what is computed of data once and kept; None: a temporary one, of large data alone.
    """

    train: str | None
    val: str | None
    test: Mapping[str, str]
    splits: Mapping[str, str | None] | None = None
    root: str | None = None
    reading: Reading = field(default_factory=Reading)
    batch_size: int
    eval_batch_size: int
    num_workers: int | None
    seed: int
    batch_tokens: int | None = None
    text_form: str | None = None
    sets: Sequence[DataSet] = ()
    mixture_within: str = "batch"
    cache: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self.batch_sampler: ResumableBatchSampler | None = None
        self._sets: dict[str, SampleSet] = {}
        self._restored: dict[str, Any] | None = None
        self._data: dict[str, Any] | None = None
        self.broken: dict[str, dict[int, str]] = {}
        """Samples that could not be read, by split: index -> name and reason."""
        self.readers: list[SampleReader] = []
        self.spare: set[str] = set()
        """Held-out splits of which this process has no share: the batch that its loader returns is not counted."""
        self.val_sets: list[str] = []
        """The set of each validation batch of this process, where several sets are validated on."""
        self.in_form = form_named(self.text_form)
        check_paths(self.sets)

    def load(self, path: Path, split: str | None, *, phase: str) -> SampleSet:
        """Read a manifest for the phase "train" (whose items are augmented), "val" or "test"."""
        raise TypeError(f"{type(self).__name__} does not define load")

    def collate(self, samples: Sequence[Any]) -> Any:
        """Samples -> one batch."""
        raise TypeError(f"{type(self).__name__} does not define collate")

    def collate_train(self, samples: Sequence[Any]) -> Any:
        """Samples -> one training batch; the same as any other unless a subclass packs them."""
        return self.collate(samples)

    def lengths(self, samples: Any) -> np.ndarray | None:
        """Length of each training sample, for batches of similar lengths; None: no bucketing."""
        return None

    def lengths_in(self, samples: Any) -> Callable[[int], np.ndarray] | None:
        """Epoch -> lengths of the training samples as they are drawn in it, `lengths` being their bounds; None: always those."""
        return None

    def groups(self, samples: Any) -> list[list[int]] | None:
        """Training samples that stay together in a batch; None: each alone."""
        return None

    def metadata(self) -> dict[str, Any]:
        """Keyword arguments that the stage's constructor takes from its data: tokenizer, frontends."""
        return {}

    def curriculum_mask(self, samples: Any) -> np.ndarray | None:
        """True for the training samples that come first in the first epoch; None: no curriculum."""
        return None

    @property
    def test_splits(self) -> list[str]:
        """Names of the test splits, in the order of the loaders."""
        return list(self.test)

    def read(self, task: str) -> None:
        """Read what the task "fit", "validate" or "test" needs, so that caches exist before several processes use them. The
        tests of a training are read before it: what is wrong with them is not found out hours later."""
        tests = tuple(f"test/{name}" for name in self.test_splits)
        for split in {"fit": ("train", "val", *tests), "validate": ("val",), "test": tests}[task]:
            self.samples(split)

    def samples(self, split: str) -> SampleSet:
        """The samples of "train", "val" or "test/<name>", read once."""
        if split not in self._sets:
            phase, _, name = split.partition("/")
            members = [each for each in self.sets if phase == "train" or (phase == "val" and each.val is not None)]
            if members:
                self._sets[split] = read_sets(self, members, phase)
                return self._sets[split]
            path = {"train": self.train, "val": self.val, "test": self.test.get(name)}[phase]
            if path is None:
                raise ValueError(f"no {split} data: give data.{split}=PATH")
            self._sets[split] = self.load(Path(path), self._row_split(phase), phase=phase)
            if phase == "val" and reads_training_rows(self, path):
                log.warning("%s: validation reads the rows of training; give data.val or data.val_split", path)
        return self._sets[split]

    @property
    def holds_out(self) -> bool:
        """True if training leaves rows of its file out, which validation and tests of that file read."""
        return bool(self.reading.split_shares)

    def read_rows(self, path: Path | str, split: str | None, *, shape: str, phase: str) -> Sequence[Row]:
        """Rows of a manifest of this shape, for the phase "train", "val" or "test" (`read_manifest`)."""
        return read_manifest(
            path, shape=shape, split=split, root=self.root, reading=self.reading, phase=phase, cache=self.cache
        )

    @property
    def train_files(self) -> list[TextFile]:
        """The training manifests."""
        if not self.sets:
            return [] if self.train is None else [TextFile(self.train, self.reading, self.root)]
        return [TextFile(each.train, each.options["reading"], each.options["root"]) for each in self.sets]

    def _row_split(self, phase: str) -> str | None:
        return (self.splits or {}).get(phase)

    def train_dataloader(self) -> Loader:
        if self.batch_sampler is None:
            overfit = getattr(self.trainer, "overfit_batches", 0)  # Lightning sets it late
            self.batch_sampler = self._new_sampler(*self._process(), overfit=overfit)
            count = len(self.samples("train"))
            unused = 0 if overfit else count - int(self.batch_sampler.batches(0)[1][-1])
            if unused > MAX_BAD_SHARE * count:
                log_skipped(unused, count, what="train", why="they do not fill a batch (in each epoch others)")
            if self._restored is not None:
                self.batch_sampler.load_state_dict(self._restored)
        return self._loader(
            "train",
            self.collate_train,
            self.batch_sampler,
            windows=windows_of(self.trainer, batches=len(self.batch_sampler)),
        )

    def _new_sampler(self, rank: int, world_size: int, *, overfit: float = 0) -> ResumableBatchSampler:
        """At its beginning. overfit: so many batches (a share of them, if below 1) again and again; 0: all."""
        samples = self.samples("train")
        options: dict[str, Any] = {
            "batch_size": self.batch_size, "seed": self.seed, "budget": self.batch_tokens, "rank": rank,
            "world_size": world_size,
        }  # fmt: skip
        if isinstance(samples, Concatenation):
            sampler: ResumableBatchSampler = mixture_sampler(samples, self.sets, self, **options)
        else:
            sampler = ResumableBatchSampler(
                len(samples),
                lengths=self.lengths(samples),
                lengths_in=self.lengths_in(samples),
                groups=self.groups(samples),
                curriculum=self.curriculum_mask(samples),
                **options,
            )
        if overfit:
            sampler.repeat(limit_batches(len(sampler), overfit))
        return sampler

    def steps_in(self, epochs: int, *, accumulate: int, limit: float | None, only: float, ranks: int) -> int:
        """Optimizer steps of so many of the trainer's epochs, which have at most `limit` batches (a share of them, if it is
        no whole number)."""
        sampler = self._new_sampler(0, ranks, overfit=only)
        most = limit_batches(len(sampler), only or (1.0 if limit is None else limit))
        steps, epoch, left = 0, -1, 0
        for _ in range(epochs):
            if not left:
                epoch += 1
                left = len(sampler) if self.batch_tokens is None else len(sampler.batches(epoch)[0])
            run = min(most, left)
            steps, left = steps + math.ceil(run / accumulate), left - run
        return steps

    def val_dataloader(self) -> Loader:
        return self._held_out("val", self.trainer.limit_val_batches if self.trainer else None)

    def test_dataloader(self) -> list[Loader]:
        limit = self.trainer.limit_test_batches if self.trainer else None
        return [self._held_out(f"test/{name}", limit) for name in self.test_splits]

    def _process(self) -> tuple[int, int]:
        """(rank, world size)."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _held_out(self, split: str, limit: float | None) -> Loader:
        """Batches of a held-out split in order, the first `limit` of them where that is a whole number. Each of several
        processes takes a consecutive share of them: whole batches, so that the measurement is that of one process."""
        samples, size = self.samples(split), self.eval_batch_size
        indices, names = range(len(samples)), list[str]()
        batches: list[Any] = [indices[start : start + size] for start in range(0, len(indices), size)]
        if isinstance(samples, Concatenation):
            batches, names = samples.held_out_batches(size)
        if isinstance(limit, int):
            batches = batches[:limit]
            unused = len(indices) - sum(map(len, batches))
            option = f"trainer.limit_{split.partition('/')[0]}_batches={limit}"
            log_skipped(unused, len(indices), what=split, why=f"only the first are measured ({option})")
        rank, world_size = self._process()
        first, last = len(batches) * rank // world_size, len(batches) * (rank + 1) // world_size
        share = batches[first:last]
        if names:
            self.val_sets = names[first:last] or names[:1]
        if not share:  # a process without batches would end early, and the others wait for it
            self.spare.add(split)
        return self._loader(split, self.collate, share or batches[:1])

    def _loader(
        self, split: str, collate: Callable[[Sequence[Any]], Any], batches: Any, *, windows: Windows | None = None
    ) -> Loader:
        on_gpu = bool(self.trainer and self.trainer.strategy.root_device.type == "cuda")
        workers = usual_workers(on_gpu=on_gpu) if self.num_workers is None else self.num_workers
        reader = SampleReader(self.samples(split), broken=self.broken.setdefault(split, {}), workers=workers)
        self.readers.append(reader)
        return Loader(
            reader,
            windows=windows,
            batch_sampler=batches,
            collate_fn=functools.partial(collate_read, collate),
            num_workers=workers,
            worker_init_fn=begin_work,
            # to start them again takes longer than a batch, and each epoch would wait for it
            persistent_workers=workers > 0 and (split == "train" or (on_gpu and split == "val")),
            generator=torch.Generator(),  # a loader draws a number whenever it starts: not from the generator of training
            pin_memory=on_gpu,
        )

    def count_batch(self) -> None:
        """Called by the callback `DataPosition` after every training batch."""
        if self.batch_sampler is not None:
            self.batch_sampler.count_batch()

    def data(self) -> dict[str, Any]:
        """What a run is trained on (fingerprint.py)."""
        if self._data is None:
            paths = {"train": self.train, "val": self.val, "replay": getattr(self, "replay_path", None)}
            self._data = {
                "files": digests(paths | fingerprint_paths(self.sets)),
                "names": {name: str(path) for name, path in paths.items() if path is not None},
                "samples": len(self.samples("train")),
                "seed": self.seed,
            }
        return self._data

    def check_data(self, checkpoint: Mapping[str, Any], *, path: str, named: bool) -> None:
        """Raise ValueError unless the data is that of the run that a checkpoint belongs to. Where the user named the
        checkpoint, a warning says that training begins an epoch of the new data."""
        state = checkpoint.get(type(self).__qualname__) or {}
        refuse_other_data(state.get("data", {}), self.data(), path=path, named=named)

    def state_dict(self) -> dict[str, Any]:
        """Position in the data and what data it is, kept in the checkpoint."""
        return {} if self.batch_sampler is None else {**self.batch_sampler.state_dict(), "data": self.data()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to that position when the loader is made; in other data to the begin of the next epoch."""
        self._restored = state_dict or None
        if state_dict and changes(state_dict.get("data", {}), self.data()) is not None:
            self._restored = {"epoch": state_dict["epoch"] + 1, "consumed": 0}
