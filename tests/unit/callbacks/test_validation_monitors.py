"""Monitors of validation: decoding metrics, early stopping, and the weights that are exported; resumed as never stopped."""

import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.early_stopping import EarlyStopping
from callbacks.resume_checkpoint import ResumeCheckpoint
from callbacks.validation_metrics import ValidationMetrics
from callbacks.weight_average import WeightAverage
from tests.ranks import run_ranks
from tests.unit.callbacks.conftest import ToyData, ToyStage

LOSS = "toy/val/loss"
EACH = {"limit_val_batches": 1.0, "val_check_interval": 2, "check_val_every_n_epoch": None, "max_epochs": -1}


class Seen(Callback):
    """Weights and logged metrics of each validation."""

    def __init__(self):
        self.weights, self.metrics = {}, []

    def on_validation_end(self, trainer, pl_module):
        self.weights[trainer.global_step] = pl_module.model.weight.detach().clone()
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def average(tmp_path, source="last", count=2, **options):
    how = {"monitor": LOSS, "mode": "min", "folder": str(tmp_path / "weights")}
    return WeightAverage(source=source, count=count, **how | options)


def fit(toy, *callbacks, steps=6, ckpt=None, done=0, **how):
    """done: batches of the epoch that the checkpoint has used."""
    stage, data, trainer = toy(*callbacks, max_steps=steps, **EACH | how)
    rest = list(data.loader())[done:]
    data.train_dataloader = lambda: torch.utils.data.DataLoader(rest, batch_size=None, generator=torch.Generator())
    trainer.fit(stage, datamodule=data, ckpt_path=ckpt)
    return stage, trainer


def test_metrics_of_the_evaluator_are_logged_of_the_first_samples(toy):
    seen = Seen()
    fit(toy, ValidationMetrics(monitor="toy/val/batches", samples=5), seen)
    assert [each["toy/val/batches"] for each in seen.metrics] == [3, 3, 3], "two samples a batch"


def test_a_monitor_of_losses_decodes_nothing(toy):
    seen = Seen()
    fit(toy, ValidationMetrics(monitor=LOSS, samples=None), seen)
    assert "toy/val/batches" not in seen.metrics[0]


def test_a_monitor_that_does_not_exist_is_refused_with_those_that_do(toy):
    with pytest.raises(ValueError, match=re.escape("it measures toy/val/loss, toy/val/batches")):
        fit(toy, ValidationMetrics(monitor="toy/val/wer", samples=None))


def test_decoding_changes_no_weight(toy):
    plain, _ = fit(toy)
    decoded, _ = fit(toy, ValidationMetrics(monitor="toy/val/batches", samples=None))
    assert torch.equal(plain.model.weight, decoded.model.weight)


def test_the_last_validations_are_averaged_by_hand(toy, tmp_path):
    seen = Seen()
    stage, _ = fit(toy, average(tmp_path), seen)
    torch.testing.assert_close(stage.model.weight.detach(), (seen.weights[4] + seen.weights[6]) / 2)
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == ["4.safetensors", "6.safetensors"]


def test_the_last_step_counts_where_it_was_not_validated(toy, tmp_path):
    stage, _ = fit(toy, average(tmp_path, count=1), steps=5)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["5.safetensors"]
    plain, _ = fit(toy, steps=5)
    assert torch.equal(stage.model.weight, plain.model.weight)


def test_the_best_validations_are_exported(toy, tmp_path):
    """The loss falls, so by its highest the first two are best."""
    seen = Seen()
    stage, _ = fit(toy, average(tmp_path, source="best", mode="max"), seen)
    torch.testing.assert_close(stage.model.weight.detach(), (seen.weights[2] + seen.weights[4]) / 2)
    seen = Seen()
    stage, _ = fit(toy, average(tmp_path, source="best", count=1, mode="max"), seen)
    assert torch.equal(stage.model.weight, seen.weights[2])


def test_running_statistics_are_averaged_and_counts_are_not(toy, tmp_path):
    callback, state = average(tmp_path), []

    class Norm(Callback):
        def on_fit_start(self, trainer, pl_module):
            pl_module.norm = torch.nn.BatchNorm1d(4)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            pl_module.norm(batch.ids)

        def on_validation_end(self, trainer, pl_module):
            state.append(pl_module.norm.running_mean.clone())

    stage, _ = fit(toy, Norm(), callback)
    torch.testing.assert_close(stage.norm.running_mean, (state[1] + state[2]) / 2)
    assert stage.norm.num_batches_tracked == 6


def test_codebooks_with_averages_of_their_own_are_refused(toy, tmp_path):
    stage, data, trainer = toy(average(tmp_path), max_steps=2, **EACH)
    stage.cannot_average = lambda: "entries do not correspond"
    with pytest.raises(ValueError, match="average=2: entries do not correspond"):
        trainer.fit(stage, datamodule=data)


def test_the_best_of_no_validation_is_refused_at_the_start(toy, tmp_path):
    with pytest.raises(ValueError, match="export=best: of 1 steps none is validated"):
        fit(toy, average(tmp_path, source="best", count=1), steps=1)


def test_a_resumed_run_exports_what_one_that_was_not_stopped_does(toy, tmp_path):
    """Resumed from step 3, after later validations have replaced files."""

    class Copy(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 4:
                shutil.copy(tmp_path / "part" / "last.ckpt", tmp_path / "step3.ckpt")

    def callbacks(name):
        return average(tmp_path, source="best", folder=str(tmp_path / name)), ResumeCheckpoint(str(tmp_path / name), 3)

    whole, _ = fit(toy, *callbacks("whole"))
    fit(toy, Copy(), *callbacks("part"))
    again, trainer = fit(toy, *callbacks("part"), ckpt=str(tmp_path / "step3.ckpt"), done=3)
    assert trainer.global_step == 6 and torch.equal(whole.model.weight, again.model.weight)
    for path in (tmp_path / "whole").glob("*.safetensors"):
        other = safetensors.torch.load_file(tmp_path / "part" / path.name)
        assert all(torch.equal(value, other[name]) for name, value in safetensors.torch.load_file(path).items())


def stopping(patience=2, **options):
    return EarlyStopping(**{"monitor": LOSS, "mode": "max", "patience": patience, "min_delta": 0.0} | options)


def test_training_ends_when_the_monitor_does_not_improve(toy):
    _, trainer = fit(toy, stopping(), steps=40)
    assert trainer.global_step == 6, "the first is the best, and two more are not"
    _, trainer = fit(toy, stopping(mode="min"), steps=8)
    assert trainer.global_step == 8


def test_patience_goes_on_in_a_resumed_run_and_a_stopped_one_stays_stopped(toy, tmp_path):
    resume = ResumeCheckpoint(str(tmp_path), 3)
    fit(toy, stopping(), resume, steps=5)
    _, trainer = fit(toy, stopping(), ResumeCheckpoint(str(tmp_path), 3), steps=40, ckpt=str(tmp_path / "last.ckpt"))
    assert trainer.global_step == 6
    _, trainer = fit(toy, stopping(), ResumeCheckpoint(str(tmp_path), 3), steps=40, ckpt=str(tmp_path / "last.ckpt"))
    assert trainer.global_step == 6


def trained(folder, ranks):
    """Validations of processes that share the model, the best two of which are averaged; and the metric of an evaluator."""
    torch.manual_seed(0)
    shared = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False)
    seen, best = Seen(), average(Path(folder), source="best", mode="max")
    trainer = Trainer(
        accelerator="cpu", devices=ranks, strategy=shared if ranks > 1 else "auto", max_steps=6, max_epochs=-1,
        val_check_interval=2, limit_val_batches=4, logger=False, num_sanity_val_steps=0, enable_checkpointing=False,
        callbacks=[ValidationMetrics(monitor="toy/val/batches", samples=None), best, stopping(), seen],
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, default_root_dir=folder,
    )  # fmt: skip
    data, stage = ToyData(), ToyStage()
    data.spare = set()
    trainer.fit(stage, datamodule=data)
    weight = stage.model.weight.detach()
    weight = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return trainer.global_step, best.kept, [each["toy/val/batches"] for each in seen.metrics], weight.tolist()


@pytest.mark.slow
def test_processes_that_share_the_model_agree(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    step, kept, batches, weight = trained(str(tmp_path / "one"), 1)
    assert len(kept) == 2
    for other in run_ranks(trained, str(tmp_path / "two"), 2, ranks=2):
        assert other[0] == step and [each[0] for each in other[1]] == [each[0] for each in kept]
        assert other[2] == [2 * each for each in batches], "the toy gives every process the same batches"
        torch.testing.assert_close(torch.tensor(other[3]), torch.tensor(weight), rtol=1e-4, atol=1e-6)
