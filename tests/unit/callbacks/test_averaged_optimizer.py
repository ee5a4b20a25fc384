"""Weights that an optimizer averages: validated and exported, never trained on, and exact when resumed."""

from functools import partial

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.averaged_optimizer import AveragedOptimizer
from callbacks.data_position import DataPosition
from callbacks.ema import EMA
from callbacks.metrics_file import MetricsFile
from callbacks.random_state import RandomState
from callbacks.resume_checkpoint import ResumeCheckpoint
from callbacks.weight_average import WeightAverage
from muomni.optim.optimizers import lion, schedule_free, soap
from muomni.optim.schedule import constant
from tests.unit.callbacks.conftest import ToyData
from tests.unit.callbacks.test_ema import See
from tests.unit.callbacks.test_resume_checkpoint import Noisy, Numbers

FREE = partial(schedule_free, lr=0.05, betas=(0.9, 0.98))
MAKE = {
    "lion": partial(lion, lr=0.05, betas=(0.9, 0.99)),
    "soap": partial(soap, lr=0.05, betas=(0.95, 0.95), shampoo_beta=0.9, frequency=2, max_side=64),
    "schedule_free": FREE,
}


def begin(toy, *callbacks, make=FREE, **how):
    stage, data, trainer = toy(*callbacks, **how)
    stage.optimizer_factory, stage.schedule_factory = make, partial(constant, warmup_steps=2)
    return stage, data, trainer


def test_validation_uses_the_average_and_training_goes_on_bit_for_bit(toy):
    runs = []
    for validate in (True, False):
        see = See()
        stage, data, trainer = begin(toy, see, AveragedOptimizer(), val_check_interval=3)
        trainer.limit_val_batches = 1 if validate else 0
        trainer.fit(stage, datamodule=data)
        runs.append(see)
    assert len(runs[0].validated) == 2
    for weight, step in zip(runs[0].validated, (2, 5), strict=True):
        assert not torch.equal(weight, runs[0].trained[step])
    assert all(map(torch.equal, runs[0].trained, runs[1].trained))


def test_the_export_is_the_average_and_the_checkpoint_what_learns(toy, tmp_path):
    see = See()
    stage, data, trainer = begin(toy, see, AveragedOptimizer(), ResumeCheckpoint(str(tmp_path / "ckpt"), 100))
    trainer.fit(stage, datamodule=data)
    saved = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    learning, z = saved["state_dict"]["model.weight"], saved["optimizer_states"][0]["state"][0]["z"]
    assert torch.equal(learning, see.trained[-1])
    assert torch.equal(stage.model.weight, learning.lerp(z, 1 - 1 / 0.9)) and not torch.equal(
        stage.model.weight, learning
    )


def test_the_best_checkpoint_holds_what_learns(toy, tmp_path):
    see = See()
    best = ModelCheckpoint(tmp_path / "ckpt", "best", monitor="toy/val/loss", enable_version_counter=False)
    stage, data, trainer = begin(toy, see, AveragedOptimizer(), best, val_check_interval=6, limit_val_batches=1)
    trainer.fit(stage, datamodule=data)
    saved = torch.load(tmp_path / "ckpt" / "best.ckpt", weights_only=True)
    assert torch.equal(saved["state_dict"]["model.weight"], see.trained[-1])


@pytest.mark.parametrize("interval", [6, 4])
def test_a_mean_of_validations_is_one_of_averages(toy, tmp_path, interval):
    """The last step's too, which may not have been validated."""
    where = {"monitor": "toy/val/loss", "mode": "min", "folder": str(tmp_path / "weights")}
    kept = WeightAverage(source="last", count=1, **where)
    see = See()
    stage, data, trainer = begin(toy, kept, see, AveragedOptimizer(), val_check_interval=interval, limit_val_batches=1)
    trainer.fit(stage, datamodule=data)
    assert torch.equal(see.after, see.trained[-1])
    z = trainer.optimizers[0].state[stage.model.weight]["z"]
    torch.testing.assert_close(stage.model.weight.detach(), see.trained[-1].lerp(z, 1 - 1 / 0.9), atol=0, rtol=0)


def test_a_second_average_is_refused(toy):
    stage, data, trainer = begin(toy, AveragedOptimizer(), EMA(decay=0.9, validate=True, export=True))
    with pytest.raises(ValueError, match="callbacks=ema with optim=schedule_free"):
        trainer.fit(stage, datamodule=data)


def fit(folder, make, *, steps, checkpoint=None):
    """A run that validates every second step and saves every fourth -> its weights by step, the export and last.ckpt."""
    torch.manual_seed(0)
    see, stage = See(), Noisy()
    stage.optimizer_factory, stage.schedule_factory = make, partial(constant, warmup_steps=2)
    callbacks = [see, AveragedOptimizer(), DataPosition(), RandomState(), ResumeCheckpoint(str(folder), 4)]
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", val_check_interval=2, check_val_every_n_epoch=None,
        default_root_dir=folder, logger=MetricsFile(str(folder)), num_sanity_val_steps=0, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(stage, datamodule=Numbers(), ckpt_path=checkpoint)
    return see, stage.state_dict(), torch.load(folder / "last.ckpt", weights_only=True)


def same(one, other):
    return torch.equal(one, other) if torch.is_tensor(one) else one == other


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_resumed_run_is_one_that_was_never_stopped(tmp_path, make):
    """Through Lightning and a file, with validations before and after the checkpoint."""
    whole, exported, last = fit(tmp_path / "whole", make, steps=10)
    fit(tmp_path / "stopped", make, steps=6)
    again, exported_again, last_again = fit(
        tmp_path / "again", make, steps=10, checkpoint=tmp_path / "stopped" / "last.ckpt"
    )
    assert len(again.trained) == 4 and all(map(torch.equal, whole.trained[6:], again.trained))
    assert torch.equal(whole.validated[-1], again.validated[-1])
    assert all(torch.equal(exported[key], exported_again[key]) for key in exported)
    before, after = (each["optimizer_states"][0]["state"] for each in (last, last_again))
    assert all(same(value, after[number][key]) for number, state in before.items() for key, value in state.items())


def test_another_optimizers_checkpoint_is_refused(toy, tmp_path):
    stage, data, trainer = begin(toy, AveragedOptimizer(), ResumeCheckpoint(str(tmp_path), 100), make=MAKE["lion"])
    trainer.fit(stage, datamodule=data)
    stage, _, trainer = begin(toy, AveragedOptimizer(), make=MAKE["soap"])
    with pytest.raises(ValueError, match="by Lion.*this run trains .* by SOAP"):
        trainer.fit(stage, datamodule=ToyData(), ckpt_path=tmp_path / "last.ckpt")


@pytest.mark.parametrize(("count", "warned"), [(4, True), (2, False), (1, False)])
def test_a_mean_with_weights_of_the_first_half_is_warned_of(toy, tmp_path, caplog, count, warned):
    where = {"monitor": "toy/val/loss", "mode": "min", "folder": str(tmp_path / "weights")}
    kept = WeightAverage(source="last", count=count, **where)
    stage, data, trainer = begin(
        toy, kept, AveragedOptimizer(), val_check_interval=2, check_val_every_n_epoch=None, max_steps=6
    )
    trainer.fit(stage, datamodule=data)
    said = [each.getMessage() for each in caplog.records if each.name == "callbacks.weight_average"]
    assert len(said) == warned
    if warned:
        assert "reach back to step 2 of 6" in said[0] and "average=2, or" in said[0]
