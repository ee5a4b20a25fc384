"""What is measured of a step: phases, norms by module, memory, recompilations, MFU. None of it changes the training."""

import time
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from torch import nn

from callbacks.norms import Norms, by_module
from callbacks.resources import Recompiles, Resources
from callbacks.step_times import PHASES, StepTimes
from callbacks.throughput import Throughput
from muomni.nn.flops import product
from muomni.run.peak_flops import PEAK_TFLOPS, measured_flops, peak_flops, stated_flops
from tests.unit.callbacks.test_counters import logged

PAUSE = 0.02


class Slow(Callback):
    """Takes its time in a hook."""

    def on_train_batch_end(self, *_):
        time.sleep(PAUSE)


def test_each_phase_has_its_own_time(toy, tmp_path):
    stage, data, trainer = toy(StepTimes(), Slow())
    forward = stage.step
    stage.step = lambda batch: (time.sleep(3 * PAUSE), forward(batch))[1]
    trainer.fit(stage, datamodule=data)
    times = {phase: logged(tmp_path, f"toy/train/ms_{phase}") for phase in PHASES}
    assert all(len(each) == 6 for each in times.values())
    assert min(times["forward"]) >= 3000 * PAUSE
    assert min(times["callbacks"][1:]) >= 1000 * PAUSE


def test_phases_leave_validations_out(toy, tmp_path):
    class SlowValidation(Callback):
        def on_validation_batch_end(self, *_):
            time.sleep(10 * PAUSE)

    how = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    stage, data, trainer = toy(StepTimes(), SlowValidation(), **how)
    trainer.fit(stage, datamodule=data)
    for phase in PHASES:
        assert max(logged(tmp_path, f"toy/train/ms_{phase}")) < 10_000 * PAUSE


def test_norms_are_those_of_a_step_by_hand(toy, tmp_path):
    stage, data, trainer = toy(Norms())
    stage.step(next(iter(data.loader())))["square"].backward()
    gradient = torch.cat([p.grad.flatten() for p in stage.parameters()]).norm().item()
    stage.zero_grad()
    trainer.fit(stage, datamodule=data)
    words = ("gradient_norm", "weight_norm", "update_norm", "update_ratio")
    norms = {word: logged(tmp_path, f"toy/train/{word}_model") for word in words}
    assert norms["gradient_norm"][0] == pytest.approx(gradient, rel=1e-4)
    assert norms["update_norm"][0] == pytest.approx(0.1 * gradient, rel=1e-3), "SGD at 0.1"
    ratios = [update / weight for update, weight in zip(norms["update_norm"], norms["weight_norm"], strict=True)]
    assert norms["update_ratio"] == pytest.approx(ratios, rel=1e-3)


def test_modules_are_the_models_and_the_stages_others():
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
    stage = nn.ModuleDict({"model": model, "text_tower": nn.Linear(2, 2)})
    model["head"].weight.requires_grad_(False)
    assert {name: len(each) for name, each in by_module(stage).items()} == {"embedding": 1, "head": 1, "text_tower": 2}


def test_measuring_changes_no_bit(toy):
    def weights(*callbacks):
        stage, data, trainer = toy(*callbacks)
        trainer.fit(stage, datamodule=data)
        return torch.cat([p.detach().flatten() for p in stage.parameters()])

    assert torch.equal(weights(), weights(StepTimes(), Norms(), Resources(), Throughput()))


def test_memory_and_recompilations(toy, tmp_path):
    stage, data, trainer = toy(Resources())
    trainer.fit(stage, datamodule=data)
    assert min(logged(tmp_path, "toy/train/peak_memory_mib")) > 10
    counts = Recompiles()
    trigger = SimpleNamespace(name="DYNAMO")
    for number in ("0/0", "1/0", "0/1", "0/1_1", "0/2"):
        counts.note(SimpleNamespace(compile_id=number, callback_trigger=trigger))
    assert counts.count == 3


@pytest.mark.slow
def test_torch_names_recompilations_as_we_count_them():
    import torch._dynamo as dynamo

    counts = Recompiles()
    dynamo.callback_handler.register_start_callback(counts.note)
    double = torch.compile(lambda x: x * 2, backend="eager")
    for length in (3, 4, 5):
        double(torch.ones(length))
    dynamo.callback_handler.remove_start_callback(counts.note)
    assert counts.count == 1, "once more for dynamic lengths"


def test_mfu_is_a_share_of_the_peak(toy, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("callbacks.throughput.peak_flops", lambda device, half: (1e6, "a test"))
    stage, data, trainer = toy(Throughput())
    stage.step_cost = lambda batch: product(2, 4, 1)
    trainer.fit(stage, datamodule=data)
    samples, mfu = (logged(tmp_path, f"toy/train/{name}") for name in ("samples_per_second", "mfu"))
    assert mfu == pytest.approx([rate / 2 * 48 / 1e4 for rate in samples], rel=1e-3), (
        "48 operations a step of 2 samples"
    )


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("NVIDIA H200", 989.4, 494.7), ("NVIDIA H100 80GB HBM3", 989.4, 494.7), ("NVIDIA H100 PCIe", 756.5, 378.0),
        ("NVIDIA A100-SXM4-80GB", 312.0, 156.0), ("Tesla T4", 65.0, 8.1), ("NVIDIA L40S", 362.1, 183.0),
        ("NVIDIA L4", 121.0, 60.0),
        ("NVIDIA A10G", 70.0, 35.0), ("NVIDIA GeForce RTX 4090", 165.2, 82.6), ("Tesla V100-SXM2-16GB", 125.0, 15.7),
    ],
)  # fmt: skip
def test_gpus_are_known_by_the_drivers_names(name, half, single):
    assert stated_flops(name, half=True) == pytest.approx(1e12 * half)
    assert stated_flops(name, half=False) == pytest.approx(1e12 * single)


def test_a_device_that_is_not_in_the_table_is_measured(monkeypatch):
    assert stated_flops("NVIDIA Future 9000", half=True) is None
    assert all(half >= single for half, single in PEAK_TFLOPS.values())
    monkeypatch.setattr("muomni.run.peak_flops.CPU_SIDE", 64)
    state = torch.get_rng_state()
    rate, source = peak_flops(torch.device("cpu"), half=False)
    assert rate > 1e6
    assert "measured" in source
    assert measured_flops(torch.device("cpu"), half=False) > 1e6
    assert torch.equal(state, torch.get_rng_state())


def test_a_gpu_is_waited_for_in_the_step_that_is_logged_alone(toy, monkeypatch):
    waits, steps = [], []
    monkeypatch.setattr("torch.cuda.synchronize", lambda *_: waits.append(len(steps)))

    class AsOnGpu(StepTimes):
        def on_train_start(self, trainer, pl_module):
            self._profiler.synced = True
            self._begin(trainer)

    class Steps(Callback):
        def on_train_batch_end(self, *_):
            steps.append(None)

    stage, data, trainer = toy(AsOnGpu(), Steps())
    trainer.log_every_n_steps = 3
    trainer.fit(stage, datamodule=data)
    assert set(waits) == {1, 2, 4, 5}, "from the end of the steps 2 and 5 to the end of 3 and 6"
