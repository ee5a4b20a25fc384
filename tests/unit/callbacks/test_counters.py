"""Counters and the journal on real training steps."""

import csv
import json
import os
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
from callbacks.random_state import RandomState, read_state, write_state
from callbacks.resume_checkpoint import ResumeCheckpoint
from callbacks.run_info import Journal
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


class EveryNorm(Callback):
    """Of each step, by hand."""

    def __init__(self):
        self.norms = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.norms.append(float(torch.cat([p.grad.flatten() for p in pl_module.parameters()]).norm()))


def test_the_norm_in_a_row_is_that_of_the_row_s_step(toy, tmp_path):
    every = EveryNorm()
    stage, data, trainer = toy(every, GradientGuard(max_norm=100.0, patience=3), GradientNorm())
    trainer.log_every_n_steps = 3
    trainer.fit(stage, datamodule=data)
    with (tmp_path / "metrics.csv").open() as file:
        rows = {int(row["step"]): row["toy/train/gradient_norm"] for row in csv.DictReader(file)}
    assert {step: float(norm) for step, norm in rows.items()} == pytest.approx(
        {2: every.norms[2], 5: every.norms[5]}, rel=1e-4
    )


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


def test_the_shares_of_the_whole_run_leave_validations_out_and_go_on_when_resumed(toy, tmp_path, monkeypatch):
    """On a clock that ticks a second a call: of each batch one of two ticks is waiting, and one before each of two validations; 6
    of 8 ids are no padding."""
    ticks = iter(range(10_000))
    monkeypatch.setattr("callbacks.throughput.time.perf_counter", lambda: float(next(ticks)))
    how = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    stage, data, trainer = toy(Throughput(), **how, max_epochs=-1, max_steps=5)
    trainer.fit(stage, datamodule=data)
    assert stage.totals == {"toy/train/padding_share": 25.0, "toy/train/data_wait_share": pytest.approx(7 / 12)}
    first, again, done = trainer.callbacks[0], Throughput(), Throughput()
    done.load_state_dict(first.state_dict())
    stage.totals = {}
    done.on_fit_end(trainer, stage)
    assert stage.totals == {"toy/train/padding_share": 25.0, "toy/train/data_wait_share": pytest.approx(7 / 12)}
    again.load_state_dict(first.state_dict())
    stage, data, trainer = toy(again, **how, max_epochs=-1, max_steps=5)
    trainer.fit(stage, datamodule=data)
    assert again.state_dict()["tokens"] == 2 * first.state_dict()["tokens"] == 80


def test_each_batch_is_counted_once(toy):
    stage, data, trainer = toy(DataPosition(), batches=5)
    trainer.fit(stage, datamodule=data)
    assert data.counted == 5


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002  (the generator that is kept)


def test_random_generators_come_back_as_they_were(tmp_path):
    path = tmp_path / "state.pt"
    torch.save(read_state(), path)
    expected = draw()
    draw()
    write_state(torch.load(path, weights_only=True))
    assert draw() == expected


def test_a_process_keeps_the_state_of_its_own_gpu_and_goes_on_where_there_are_fewer(monkeypatch):
    """Eight processes saved, four (or a CPU) go on; and what older checkpoints hold, of all GPUs of the machine."""
    states = {index: torch.tensor([index], dtype=torch.uint8) for index in range(8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device.index].clone())
    written = {}

    def write(state, device):
        assert device.index < 4, "there are four"
        written[device.index] = int(state)

    monkeypatch.setattr(torch.cuda, "set_rng_state", write)
    saved = [read_state(torch.device("cuda", index)) for index in range(8)]
    for rank in range(4):
        write_state(saved[rank], torch.device("cuda", rank))
    older = {key: value for key, value in saved[1].items() if key != "gpu"} | {"cuda": list(states.values())}
    assert written == {0: 0, 1: 1, 2: 2, 3: 3}
    write_state(older, torch.device("cuda", 1))
    write_state(saved[5], torch.device("cpu"))
    write_state(read_state(torch.device("cpu")), torch.device("cuda", 2))
    assert written == {0: 0, 1: 1, 2: 2, 3: 3}
    assert read_state(torch.device("cpu"))["gpu"] is None


class Draws(Callback):
    """What training draws, and what validation draws."""

    def __init__(self):
        self.training, self.validation = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.training.append(draw())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validation.append(draw())


def test_validation_draws_from_generators_of_its_own(toy):
    runs = []
    for interval in (2, 3):
        draws = Draws()
        stage, data, trainer = toy(RandomState(), draws, limit_val_batches=1, val_check_interval=interval)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        trainer.fit(stage, datamodule=data)
        runs.append(draws)
    assert runs[0].training == runs[1].training
    assert len(set(runs[0].training)) == 6
    assert (len(runs[0].validation), len(runs[1].validation)) == (3, 2)
    assert len(set(runs[0].validation + runs[1].validation)) == 1, "the same noise each time"


class Send(Callback):
    """Raises a signal in the middle of the step after `before` others."""

    def __init__(self, number, before=2, times=1):
        self.number, self.before, self.times = number, before, times

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.before:
            for _ in range(self.times):
                signal.raise_signal(self.number)


def saving(folder, every=500):
    return ResumeCheckpoint(str(folder / "checkpoints"), every)


def saved_step(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(toy, tmp_path, number, code):
    stage, data, trainer = toy(DataPosition(), Send(number), Interrupts(), saving(tmp_path))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        trainer.fit(stage, datamodule=data)
    assert ended.value.code == code
    assert saved_step(tmp_path) == 3 == data.counted
    assert signal.getsignal(number) == before, "it listens no more"


def test_a_signal_in_the_last_step_waits_for_the_end(toy, tmp_path):
    stage, data, trainer = toy(
        DataPosition(), Send(signal.SIGTERM, before=5), Interrupts(), saving(tmp_path), max_steps=6
    )
    with pytest.raises(SystemExit) as ended:
        trainer.fit(stage, datamodule=data)
    assert ended.value.code == 143
    assert saved_step(tmp_path) == 6
    assert not (tmp_path / "checkpoints" / "previous.ckpt").exists(), "saved once"


@pytest.mark.parametrize(("number", "code", "saved"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_a_second_ctrl_c_ends_at_once_a_second_sigterm_does_not(toy, tmp_path, number, code, saved):
    stage, data, trainer = toy(DataPosition(), Send(number, times=2), Interrupts(), saving(tmp_path))
    with pytest.raises(SystemExit) as ended:
        trainer.fit(stage, datamodule=data)
    assert ended.value.code == code
    assert (tmp_path / "checkpoints" / "last.ckpt").exists() == saved


def test_a_signal_within_an_accumulated_step_waits_for_its_end(toy, tmp_path):
    callbacks = DataPosition(), Send(signal.SIGTERM), Interrupts(), saving(tmp_path)
    stage, data, trainer = toy(*callbacks, accumulate_grad_batches=2)
    with pytest.raises(SystemExit):
        trainer.fit(stage, datamodule=data)
    assert saved_step(tmp_path) == 2
    assert data.counted == 4, "the signal came with the third batch, the first of two"


def test_sigusr1_in_a_slurm_job_saves_and_queues_it_again(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stub = tmp_path / "scontrol"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked; test -f {tmp_path}/checkpoints/last.ckpt\n')
    stub.chmod(0o755)
    stage, data, trainer = toy(DataPosition(), Send(signal.SIGUSR1), Interrupts(), saving(tmp_path))
    with pytest.raises(SystemExit) as ended:
        trainer.fit(stage, datamodule=data)
    assert ended.value.code == 128 + signal.SIGUSR1
    assert saved_step(tmp_path) == 3
    assert (tmp_path / "asked").read_text() == "requeue 4711\n", "asked once, after saving"


def test_the_journal_says_how_long_and_on_what(toy, tmp_path):
    journal = Journal()
    stage, data, trainer = toy(journal)
    stage.model.bias.requires_grad_(False)
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
    journal.load_state_dict({"fit": 1000.0, "started": "yesterday", "resumed": 1})
    stage, data, trainer = toy(journal)
    trainer.fit(stage, datamodule=data)
    document = json.loads((tmp_path / "run.json").read_text())
    assert 1000 <= document["seconds"]["fit"] < 1060
    assert (document["started"], document["resumed"]) == ("yesterday", 2)
    assert journal.state_dict()["fit"] >= 1000
