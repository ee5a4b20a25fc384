"""Reading the samples of a batch: one that breaks is left out, counted and named; a worker that dies leaves word of what it
was reading."""

import copy
import logging
import multiprocessing
import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datamodules.accumulation import Windows
from datamodules.batch_sampler import SampleIndex
from datamodules.manifests import MAX_BAD_SHARE
from muomni.cores import available_cores

log = logging.getLogger(__name__)

#: (index, name and reason) of samples that could not be read.
Faults = list[tuple[int, str]]
#: After so many broken samples in a row something else is wrong.
TRIES = 10
MAX_WORKERS = 4  # of a loader, each with a copy of what the samples keep in memory


class SampleSet(Protocol):
    """Samples by index; `item(index, epoch)` may augment as a function of its arguments alone."""

    def __len__(self) -> int: ...

    def item(self, index: int, epoch: int) -> Any:
        """The sample `index` as drawn in `epoch`; epoch -1 means: as it is, no augmentation."""
        ...

    def name(self, index: int) -> str:
        """What messages call the sample: its id."""
        ...


class SampleReader(Dataset[Any]):
    """The samples of a loader's batches.

    In place of a broken sample a training batch (`SampleIndex`) gets the next one that can be read, a function of the index, so
    that batches keep their size and a resumed run repeats them; a held-out batch (indices) goes without.

    Args:
        samples: by index. broken: index -> name and reason of the samples found broken so far; it is added to.
        workers: of the loader.
    """

    def __init__(self, samples: SampleSet, *, broken: dict[int, str], workers: int) -> None:
        self.samples, self.broken = samples, broken
        self.working = torch.zeros(max(1, workers), 3, dtype=torch.long).share_memory_()
        """Of each worker: process id, index of the sample that it reads, 1 while it does."""
        self.iterator: weakref.ref[Any] | None = None
        """Torch's own, which ends the workers when it goes."""
        self.workers: list[Any] = []
        """Their processes, which outlive it: Lightning lets go of the iterator before an error gets here."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, draws: Sequence[SampleIndex | int]) -> tuple[list[Any], Faults]:
        """Samples and faults of a batch."""
        faults: Faults = []
        read = [self._read(draw, faults) for draw in draws]
        return [sample for each in read for sample in each], faults

    def _read(self, draw: SampleIndex | int, faults: Faults) -> list[Any]:
        """The sample alone in a list, or none."""
        drawn = isinstance(draw, SampleIndex)
        index, epoch = (draw.index, draw.epoch) if isinstance(draw, SampleIndex) else (draw, -1)
        for _ in range(TRIES if drawn else 1):
            try:
                return [self._item(index, epoch)]
            except (ValueError, OSError) as error:
                faults.append((index, f"{self.samples.name(index)}: {error}"))
            index = (index + 1) % len(self)
        if drawn:
            faults.append((-1, f"{TRIES} samples in a row cannot be read; the first: {faults[-TRIES][1]}"))
        return []

    def _item(self, index: int, epoch: int) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.samples.item(index, epoch)
        mine = self.working[worker.id]
        mine[0], mine[1], mine[2] = os.getpid(), index, 1
        sample = self.samples.item(index, epoch)
        mine[2] = 0
        return sample

    def report(self, faults: Faults) -> None:
        """In the training process: note and name what was broken. Over 1 % of the samples is a ValueError."""
        for index, reason in faults:
            if index < 0:
                raise ValueError(reason)
            if index in self.broken:
                continue
            self.broken[index] = reason
            log.warning("sample left out, %d of %d so far: %s", len(self.broken), len(self), reason)
            if len(self.broken) > MAX_BAD_SHARE * len(self):
                share = f"{len(self.broken)} of {len(self)}"
                raise ValueError(f"{share} samples cannot be read (over 1 %); the last: {reason}")


class Loader(DataLoader[Any]):
    """Batches of a SampleReader; its faults are reported as they come, and a batch without a sample left is passed over.

    windows: of batches that share an optimizer step, where several do."""

    def __init__(self, reader: SampleReader, *, windows: Windows | None = None, **options: Any) -> None:
        super().__init__(reader, **options)
        self.windows = windows

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._read() if self.windows is None else self.windows.over(self._read())

    def _read(self) -> Iterator[Any]:
        reader = self.dataset
        assert isinstance(reader, SampleReader)
        persistent = reader.workers
        reader.iterator, reader.workers = None, []  # workers that are started afresh get a copy of the reader
        started: list[Any] = []
        if self.num_workers:
            self.multiprocessing_context = _remembering(started)
        try:
            iterator = super().__iter__()
        finally:  # one may die before the last is started
            reader.workers = started or persistent
        reader.iterator = weakref.ref(iterator)
        for batch, faults in iterator:
            reader.report(faults)
            if batch is not None:
                yield batch


def _remembering(started: list[Any]) -> Any:
    """This system's usual way to start processes; they are added to `started` as they are made."""
    usual: Any = multiprocessing.get_context(multiprocessing.get_start_method())
    remembering = copy.copy(usual)

    def process(*args: Any, **options: Any) -> Any:
        started.append(usual.Process(*args, **options))
        return started[-1]

    remembering.Process = process
    return remembering


def collate_read(collate: Callable[[Sequence[Any]], Any], read: tuple[list[Any], Faults]) -> tuple[Any, Faults]:
    """(samples, faults) -> (batch, faults); None for no samples."""
    samples, faults = read
    return collate(samples) if samples else None, faults


def begin_work(worker: int) -> None:
    """What a worker does first.

    It leaves the run's group of processes: Ctrl-C, SLURM and torchrun send a signal to all of the group, and a run that
    finishes its step before it ends needs its workers for that. And a batch that it cannot hand over (no shared memory is
    left) ends it: torch would leave the run waiting for ever.
    """
    os.setpgid(0, 0)
    Queue._on_queue_feeder_error = staticmethod(_cannot_hand_over)  # type: ignore[attr-defined]


def _cannot_hand_over(error: BaseException, batch: Any) -> None:
    """Called in the worker's thread that sends batches."""
    try:
        print(f"a worker of the data loader cannot hand over a batch: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)


@contextmanager
def named_deaths(readers: Sequence[SampleReader]) -> Iterator[None]:
    """A loader's worker that dies inside becomes one RuntimeError that says what it was reading.

    torch may notice it by the signal, in the middle of anything (of a library that makes an error of its own of it, too), or by
    a connection that breaks.
    """
    shown = sys.unraisablehook

    def show(unraisable: "sys.UnraisableHookArgs") -> None:
        if "DataLoader worker" not in str(unraisable.exc_value):  # where nothing can be raised: it comes again
            shown(unraisable)

    sys.unraisablehook = show
    try:
        yield
    except Exception as error:
        # torch looks at every child that ends, and would raise the same error again and again.
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        patience = 30.0 if isinstance(error, OSError | EOFError) else 1.0  # a connection breaks before its process ends
        dead = [said for reader in readers for said in _dead_workers(reader, patience=patience)]
        signal.signal(signal.SIGCHLD, handler)
        if not dead:
            raise
        raise RuntimeError(
            f"a worker of the data loader died ({'; '.join(dead)}): look at the sample, or lower datamodule.num_workers, "
            "which each take memory"
        ) from error
    finally:
        sys.unraisablehook = shown


def _dead_workers(reader: SampleReader, *, patience: float) -> list[str]:
    """What the workers that died were reading, waiting for `patience` seconds for one; those that live are then ended."""
    iterator = None if reader.iterator is None else reader.iterator()
    workers = reader.workers
    if not workers:
        return []
    ended = wait([worker.sentinel for worker in workers], timeout=patience)
    reading = {pid: (index, busy) for pid, index, busy in reader.working.tolist()}
    dead = []
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(patience)  # its files are closed before its exit code can be read
        code = worker.exitcode
        if code and not (iterator is None and code == -signal.SIGTERM):  # so torch ends them
            index, busy = reading.get(worker.pid, (None, 0))
            what = "before its first sample" if index is None else reader.samples.name(index)
            how = f"killed by signal {-code}, as when memory runs out" if code < 0 else f"exit code {code}"
            dead.append(f"{'reading sample' if busy else 'idle after sample'} {what}, process {worker.pid}, {how}")
    if dead and iterator is not None:
        iterator._shutdown_workers()
    return dead


def usual_workers(*, on_gpu: bool) -> int:
    """Workers of a loader: on a CPU none, since they would take its cores from training; on a GPU up to `MAX_WORKERS` of the
    cores that each of the machine's processes has, one left to itself."""
    if not on_gpu:
        return 0
    return max(0, min(MAX_WORKERS, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))
