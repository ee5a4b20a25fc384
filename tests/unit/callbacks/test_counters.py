"""Counters and the journal on real training steps."""

import csv
import json
import random
import signal

import numpy as np
import pytest
import torch
from lightning import Callback

from callbacks.data_position import DataPosition
from callbacks.gradient_guard import GradientGuard
from callbacks.gradient_norm import GradientNorm
from callbacks.interrupts import Interrupts
from callbacks.journal import Journal
from callbacks.random_state import RandomState
from callbacks.throughput import Throughput


def logged(folder, name):
    with (folder / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_the_logged_norm_is_the_gradients(toy, tmp_path):
    stage, data, trainer = toy(GradientGuard(max_norm=100.0, patience=3), GradientNorm())
    stage.step(next(iter(data.loader())))["square"].backward()
    expected = torch.cat([p.grad.flatten() for p in stage.parameters()]).norm().item()
    stage.zero_grad()
    trainer.fit(stage, datamodule=data)
    norms = logged(tmp_path, "toy/train/gradient_norm")
    assert norms[0] == pytest.approx(expected, rel=1e-4)
    assert len(norms) == 6


def test_throughput_counts_every_sample_and_token(toy, tmp_path, monkeypatch):
    """On a clock that ticks a second a call the rates are known."""
    ticks = iter(range(10_000))
    monkeypatch.setattr("callbacks.throughput.time.perf_counter", lambda: float(next(ticks)))
    stage, data, trainer = toy(Throughput())
    trainer.fit(stage, datamodule=data)
    samples, tokens = (logged(tmp_path, f"toy/train/{kind}_per_second") for kind in ("samples", "tokens"))
    wait = logged(tmp_path, "toy/train/data_wait_share")
    assert samples[1:] == pytest.approx([1.0] * (len(samples) - 1)), "2 samples in 2 ticks"
    assert tokens[1:] == pytest.approx([4.0] * (len(tokens) - 1)), "8 ids in 2 ticks"
    assert wait[1:] == pytest.approx([0.5] * (len(wait) - 1)), "1 of 2 ticks"


def test_each_batch_is_counted_once(toy):
    stage, data, trainer = toy(DataPosition(), batches=5)
    trainer.fit(stage, datamodule=data)
    assert data.counted == 5


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002  (the generator that is kept)


def test_random_generators_go_on_where_they_were(tmp_path):
    saved = RandomState().state_dict()
    path = tmp_path / "state.pt"
    torch.save(saved, path)
    expected = draw()
    draw()
    other = RandomState()
    other.load_state_dict(torch.load(path, weights_only=True))
    draw()
    other.on_train_start(None, None)
    assert draw() == expected
    other.on_train_start(None, None)
    assert draw() != expected, "restored once only"


class Send(Callback):
    """Raises a signal in the middle of step 3."""

    def __init__(self, number):
        self.number = number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(toy, tmp_path, number, code):
    path = tmp_path / "checkpoints" / "resume.ckpt"
    stage, data, trainer = toy(DataPosition(), Send(number), Interrupts(str(path)))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        trainer.fit(stage, datamodule=data)
    assert ended.value.code == code
    assert torch.load(path, weights_only=True)["global_step"] == 3 == data.counted
    assert signal.getsignal(number) == before, "it listens no more"


def test_a_signal_within_an_accumulated_step_waits_for_its_end(toy, tmp_path):
    path = tmp_path / "checkpoints" / "resume.ckpt"
    callbacks = DataPosition(), Send(signal.SIGTERM), Interrupts(str(path))
    stage, data, trainer = toy(*callbacks, accumulate_grad_batches=2)
    with pytest.raises(SystemExit):
        trainer.fit(stage, datamodule=data)
    assert torch.load(path, weights_only=True)["global_step"] == 2
    assert data.counted == 4, "the signal came with the third batch, the first of two"


def test_the_journal_says_how_long_and_on_what(toy, tmp_path):
    journal = Journal()
    stage, data, trainer = toy(journal)
    stage.layer.bias.requires_grad_(False)
    trainer.fit(stage, datamodule=data)
    trainer.test(stage, datamodule=data, verbose=False)
    document = json.loads((tmp_path / "run.json").read_text())
    assert set(document["seconds"]) == {"fit", "test"}
    assert all(0 <= seconds < 60 for seconds in document["seconds"].values())
    assert (document["stage"], document["steps"]) == ("toy", 6)
    assert (document["parameters"], document["parameters_trained"]) == (5, 4)
    assert document["machine"]["torch"] == torch.__version__
    assert document["machine"]["cores"] >= 1


def test_the_journal_of_a_resumed_run_adds_up(toy, tmp_path):
    journal = Journal()
    journal.load_state_dict({"fit": 1000.0})
    stage, data, trainer = toy(journal)
    trainer.fit(stage, datamodule=data)
    assert 1000 <= json.loads((tmp_path / "run.json").read_text())["seconds"]["fit"] < 1060
    assert journal.state_dict()["fit"] >= 1000
