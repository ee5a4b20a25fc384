"""A sample that breaks when it is read is left out and named; a worker that dies says what it was reading."""

import logging
import os
import signal
import sys
import time

import pytest
import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from datamodules.fault_tolerant_loader import named_deaths
from tests.unit.datamodules.test_base import Batch, Squares, Toy


class Fragile(Squares):
    """Samples `broken` cannot be read; sample `deadly` kills the worker that reads it."""

    def __init__(self, size, broken=(), deadly=None):
        super().__init__(size)
        self.broken, self.deadly = set(broken), deadly

    def item(self, index, epoch):
        if index in self.broken:
            raise ValueError(f"cannot read {index}.png as an image: truncated")
        if index == self.deadly and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().item(index, epoch)


class FragileData(Toy):
    def __init__(self, samples, **how):
        super().__init__(
            train="x", val="x", test={"a": "x"}, batch_size=8, eval_batch_size=8, seed=0, **{"num_workers": 0} | how
        )
        self.fragile = samples

    def load(self, path, split, *, phase):
        return self.fragile


def drawn(data, steps):
    """Indices of the samples of each training batch, epochs on end."""
    seen = []
    loader = data.train_dataloader()
    while len(seen) < steps:
        for batch in loader:
            seen.append(batch.values[:, 0].int().tolist())
            data.count_batch()
            if len(seen) == steps:
                break
    return seen


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_is_left_out_counted_and_named_and_a_resumed_run_agrees(workers, caplog):
    """In its place stands the next one, so that all ranks have their share of every batch."""
    whole = drawn(FragileData(Fragile(400)), 60)
    with caplog.at_level(logging.WARNING):
        data = FragileData(Fragile(400, broken={7, 8}), num_workers=workers)
        seen = drawn(data, 60)
    assert seen == [[9 if index in (7, 8) else index for index in batch] for batch in whole]
    assert sorted(data.broken["train"]) == [7, 8]
    assert [record.message for record in caplog.records if "square-7" in record.message] == [
        next(m for m in caplog.messages if "square-7" in m)
    ], "it is named once, though two epochs drew it"
    assert "of 400 so far: square-7: cannot read 7.png as an image: truncated" in caplog.text
    first = FragileData(Fragile(400, broken={7, 8}), num_workers=workers)
    begun = drawn(first, 20)
    second = FragileData(Fragile(400, broken={7, 8}), num_workers=workers)
    second.load_state_dict(first.state_dict())
    assert begun + drawn(second, 40) == seen


def test_a_held_out_batch_goes_without_it():
    data = FragileData(Fragile(200, broken={3}))
    values = torch.cat([batch.values for batch in data.val_dataloader()])
    assert values[:, 0].tolist() == [index for index in range(200) if index != 3]
    data.eval_batch_size = 1
    assert len(list(data.val_dataloader())) == 199, "a batch without a sample left is passed over"


@pytest.mark.parametrize("workers", [0, 2])
def test_over_a_hundredth_is_one_error(workers):
    with pytest.raises(
        ValueError, match=r"^3 of 200 samples cannot be read \(over 1 %\); the last: square-\d+: cannot"
    ):
        drawn(FragileData(Fragile(200, broken={1, 50, 120}), num_workers=workers), 50)
    with pytest.raises(ValueError, match=r"^10 samples in a row cannot be read; the first: square-\d+: cannot"):
        drawn(FragileData(Fragile(4000, broken=range(100, 140)), num_workers=workers), 500)


@pytest.mark.timeout(300)
def test_a_worker_that_dies_is_one_error_with_its_sample():
    data = FragileData(Fragile(64, deadly=33), num_workers=2)
    with (
        pytest.raises(
            RuntimeError,
            match=r"^a worker of the data loader died \(reading sample square-33, process \d+, killed by signal 9, as when "
            r"memory runs out\): look at the sample, or lower datamodule\.num_workers",
        ),
        named_deaths(data.readers),
    ):
        drawn(data, 8)


@pytest.mark.timeout(300)
def test_a_worker_that_dies_while_the_loader_still_starts_is_named_too(monkeypatch):
    """torch's iterator, which knows the workers, is then lost with its constructor's error."""
    first = drawn(FragileData(Fragile(64)), 1)[0][0]
    data = FragileData(Fragile(64, deadly=first), num_workers=2)
    reset = _MultiProcessingDataLoaderIter._reset

    def slow_reset(*args, **options):
        reset(*args, **options)
        time.sleep(100)  # ends by the error, raised at the signal of the death

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_reset", slow_reset)
    died = rf"^a worker of the data loader died \(reading sample square-{first}, process \d+, killed by signal 9"
    with pytest.raises(RuntimeError, match=died), named_deaths(data.readers):
        drawn(data, 1)


def begin(data, epochs=0):
    """The batches of two workers that have begun, after whole epochs of the same workers."""
    loader = data.train_dataloader()
    for _ in range(epochs):
        assert len(list(loader)) == 8
    batches = iter(loader)
    next(batches), next(batches)
    return batches


@pytest.mark.timeout(300)
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_death_in_the_middle_of_a_step_is_named_though_the_iterator_has_gone(epochs):
    """torch raises wherever the step is; Lightning lets go of the iterator before the error gets out."""
    data = FragileData(Fragile(64), num_workers=2)
    died = (
        r"^a worker of the data loader died \((idle after|reading) sample square-\d+, process \d+, killed by signal 9"
    )
    with pytest.raises(RuntimeError, match=died), named_deaths(data.readers):
        kill_one(data, epochs)


def test_a_death_is_named_where_a_library_took_it_for_an_error_of_its_own():
    """As `inspect.getfullargspec` does, which Lightning calls."""
    data = FragileData(Fragile(64), num_workers=2)

    def swallow():
        try:
            kill_one(data)
        except RuntimeError as error:
            raise TypeError("unsupported callable") from error

    with pytest.raises(RuntimeError, match="^a worker of the data loader died"), named_deaths(data.readers):
        swallow()


@pytest.fixture(autouse=True)
def torch_listens(monkeypatch):
    """Trainers of other tests, when they end, put back the handler from before torch's, which torch sets once a process."""
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)


def kill_one(data, epochs=0):
    """A step in which a worker dies."""
    batches = begin(data, epochs)
    try:
        os.kill(data.readers[0].workers[0].pid, signal.SIGKILL)
        time.sleep(60)
    finally:
        batches.close()
        del batches


def test_a_signal_for_the_run_and_its_group_does_not_reach_its_workers():
    """A run that finishes its step needs them."""
    data = FragileData(Fragile(64), num_workers=2)
    batches = begin(data)
    assert [os.getpgid(worker.pid) for worker in data.readers[0].workers] == [w.pid for w in data.readers[0].workers]
    batches.close()


class Lambdas(FragileData):
    """No process can send its batches to another."""

    def collate(self, samples):
        return lambda: samples


@pytest.mark.timeout(120)
def test_a_batch_that_cannot_be_handed_over_ends_the_run(capfd):
    """As when no shared memory is left: torch alone would wait for ever."""
    data = Lambdas(Fragile(64), num_workers=1)
    with pytest.raises(RuntimeError, match=r"^a worker of .* exit code 1\)"), named_deaths(data.readers):
        next(iter(data.train_dataloader()))
    assert "a worker of the data loader cannot hand over a batch: " in capfd.readouterr().err


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="^shapes"), named_deaths([]):
        raise RuntimeError("shapes do not fit")


def test_several_processes_share_whole_held_out_batches(monkeypatch):
    """Together they have each sample once; one that has no share gets a batch that does not count."""
    shares = []
    for rank in range(3):
        data = FragileData(Fragile(12))
        monkeypatch.setattr(data, "_process", lambda rank=rank: (rank, 3))
        shares.append([batch.values[:, 0].int().tolist() for batch in data.val_dataloader()])
        assert data.spare == ({"val"} if rank == 0 else set())
    assert shares == [[list(range(8))], [list(range(8))], [[8, 9, 10, 11]]]


def test_a_limit_counts_batches_of_all_processes():
    data = FragileData(Fragile(40))
    assert len(data._held_out("val", 3)) == 3 and len(data._held_out("val", 1.0)) == 5
    assert isinstance(next(iter(data.val_dataloader())), Batch)


def test_a_death_noticed_where_nothing_can_be_raised_prints_nothing(monkeypatch):
    """torch looks at its workers by a signal, which may come within a finalizer or while a process is forked."""

    class Last:
        def __init__(self, said):
            self.said = said

        def __del__(self):
            raise RuntimeError(self.said)

    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(str(unraisable.exc_value)))
    before = sys.unraisablehook
    with named_deaths([]):
        Last("DataLoader worker (pid 8152) is killed by signal: Killed.")
        Last("something else")
    assert seen == ["something else"] and sys.unraisablehook is before
