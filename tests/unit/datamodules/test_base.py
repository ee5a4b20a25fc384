"""What every datamodule shares: named splits, refusals, resumable loaders with any number of workers."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.base import DataModule, usual_workers


class Squares:
    """Sample i of epoch e is (i, e, a random number of both)."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def name(self, index):
        return f"square-{index}"

    def item(self, index, epoch):
        return index, epoch, float(np.random.default_rng([abs(epoch), index]).random())


@dataclass(slots=True)
class Batch:
    values: torch.Tensor
    device: str = "cpu"

    def to(self, device):
        self.device = str(device)
        return self


class Toy(DataModule):
    def load(self, path, split, *, phase):
        self.loaded = (str(path), split, phase)
        return Squares(int(path.name))

    def collate(self, samples):
        return Batch(torch.tensor(samples, dtype=torch.float64))


def make(**how):
    options = {
        "train": "20", "val": "5", "test": {"a": "3", "b": "7"}, "splits": {"train": "tr", "val": None, "test": "te"},
        "batch_size": 4, "eval_batch_size": 3, "num_workers": 0, "seed": 0,
    }  # fmt: skip
    return Toy(**(options | how))


def test_splits_are_loaded_by_name_and_once():
    data = make()
    assert data.test_splits == ["a", "b"]
    assert [len(loader.dataset) for loader in data.test_dataloader()] == [3, 7]
    assert data.loaded == ("7", "te", "test")
    assert data.samples("test/b") is data.samples("test/b")
    data.samples("train")
    assert data.loaded == ("20", "tr", "train")


def test_held_out_items_are_never_augmented_and_all_of_them_come():
    values = torch.cat([batch.values for batch in make().val_dataloader()])
    assert values[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert set(values[:, 1].tolist()) == {-1}


@pytest.mark.parametrize("kind", ["train", "val"])
def test_missing_data_is_refused_by_option(kind):
    with pytest.raises(ValueError, match=rf"no {kind} data: give data\.{kind}=PATH"):
        make(**{kind: None}).samples(kind)


def run(data, steps):
    """Training's way through the loader: a new iterator an epoch, batches counted after use."""
    seen = []
    loader = data.train_dataloader()
    while len(seen) < steps:
        for batch in loader:
            seen.append(batch.values.tolist())
            data.count_batch()
            if len(seen) == steps:
                break
    return seen


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_batches_and_augmentation_are_the_uninterrupted_ones(workers):
    whole = run(make(), 8)
    first = make(num_workers=workers)
    begun = run(first, 3)
    second = make(num_workers=workers)
    second.load_state_dict(first.state_dict())
    assert begun + run(second, 5) == whole


def test_batches_go_to_the_device_as_themselves():
    assert make().transfer_batch_to_device(Batch(torch.zeros(1)), "meta", 0).device == "meta"


def test_a_subclass_must_say_what_it_reads():
    class Nothing(DataModule):
        pass

    with pytest.raises(TypeError, match="Nothing does not define load"):
        Nothing(train="x", val=None, test={}, batch_size=1, eval_batch_size=1, num_workers=0, seed=0).samples("train")


def test_samples_that_fill_no_batch_and_batches_beyond_a_limit_are_said(caplog):
    make(train="22").train_dataloader()
    assert "train: 2 of 22 rows are left out: they do not fill a batch (in each epoch others)" in caplog.text
    make(train="403").train_dataloader()
    assert "of 403" not in caplog.text, "3 are less than one percent"
    make()._held_out("test/b", 2)
    assert "test/b: 1 of 7 rows are left out: only the first are measured (trainer.limit_test_batches=2)" in caplog.text


def test_a_training_reads_its_tests_before_it_begins():
    """A test manifest that cannot be read is found out at once, not when the training has ended."""
    data = make(test={"good": "3", "bad": "typo.jsonl"})
    with pytest.raises(ValueError, match="typo"):
        data.read("fit")
    data = make()
    data.read("fit")
    assert data.loaded == ("7", "te", "test")
    data = make(test={"bad": "typo.jsonl"})
    data.read("validate")


def test_a_gpu_gets_workers_that_stay_and_a_cpu_none(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (usual_workers(on_gpu=False), usual_workers(on_gpu=True)) == (0, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert usual_workers(on_gpu=True) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    for kind, workers, stay in (("cpu", 0, False), ("cuda", 4, True)):
        data = make(num_workers=None)
        strategy = SimpleNamespace(root_device=torch.device(kind))
        data.trainer = SimpleNamespace(
            strategy=strategy,
            limit_val_batches=2,
            global_rank=0,
            world_size=1,
            overfit_batches=0,
            accumulate_grad_batches=1,
        )
        for loader in (data.train_dataloader(), data.val_dataloader()):
            assert (loader.num_workers, loader.persistent_workers, loader.pin_memory) == (workers, stay, kind == "cuda")


def test_workers_that_stay_draw_what_a_resumed_run_draws():
    """Over the end of an epoch, whose samples they get too."""

    def stays():
        data = make(num_workers=1)
        data.trainer = SimpleNamespace(
            strategy=SimpleNamespace(root_device=torch.device("cuda")), global_rank=0, world_size=1, overfit_batches=0,
            accumulate_grad_batches=1,
        )  # fmt: skip
        return data

    whole, first, second = run(make(), 8), stays(), stays()
    begun = run(first, 5)
    second.load_state_dict(first.state_dict())
    assert begun + run(second, 3) == whole
