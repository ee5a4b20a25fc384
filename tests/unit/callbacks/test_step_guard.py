"""One verdict a step: what it leaves alone, in every precision, with accumulation, and on two ranks."""

import csv
import logging
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from callbacks import finite_guard
from callbacks.finite_guard import FiniteGuard
from callbacks.gradient_guard import GradientGuard
from tests.ranks import run_ranks
from tests.unit.callbacks.conftest import ToyData, ToyStage


def guards(max_norm=100.0, patience=20):
    return FiniteGuard(max_loss=1e6, patience=patience), GradientGuard(max_norm=max_norm, patience=patience)


class Plant(Callback):
    """Multiplies the gradient of the loss of a batch, or the loss itself."""

    def __init__(self, *, gradient=None, at=()):
        self.gradient, self.at, self.number = gradient, set(at), -1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.number = batch_idx

    def on_before_backward(self, trainer, pl_module, loss):
        if self.number in self.at and self.gradient is not None:
            loss.register_hook(lambda g: g * self.gradient)


class Watch(Callback):
    """Weights, moments' steps, loss scale and the schedule's step after each batch."""

    def __init__(self):
        self.weights, self.steps, self.scales, self.schedule = [], [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.weights.append(pl_module.model.weight.detach().clone())
        state = trainer.optimizers[0].state.get(pl_module.model.weight, {})
        self.steps.append(int(state.get("step", 0)))
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.scales.append(None if scaler is None else scaler.get_scale())
        self.schedule.append(trainer.lr_scheduler_configs[0].scheduler.last_epoch)


def adam(stage):
    stage.optimizer_factory = lambda groups: torch.optim.AdamW(groups, lr=0.1)
    return stage


def precision(name):
    if name == "16-mixed":
        return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))]}
    return {"precision": name}


PRECISIONS = ["32-true", "bf16-mixed", "16-mixed"]


@pytest.mark.parametrize("kind", PRECISIONS)
@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e3])
def test_a_refused_step_leaves_everything_consistent(toy, caplog, kind, factor):
    """Weights and moments stay; the schedule counts the step; a scaler goes down for what is not finite, and only then."""
    watch = Watch()
    stage, data, trainer = toy(Plant(gradient=factor, at={2}), *guards(), watch, **precision(kind))
    with caplog.at_level(logging.WARNING, logger="callbacks.step_guard"):
        trainer.fit(adam(stage), datamodule=data)
    assert torch.equal(watch.weights[2], watch.weights[1])
    assert not torch.equal(watch.weights[3], watch.weights[2])
    assert watch.steps == [1, 2, 2, 3, 4, 5]
    assert watch.schedule == [1, 2, 3, 4, 5, 6] and trainer.global_step == 6
    finite = factor == 1e3
    if kind == "16-mixed":
        assert watch.scales == [8.0] * 2 + [8.0 if finite else 4.0] * 4
    [message] = [r.getMessage() for r in caplog.records if r.name == "callbacks.step_guard"]
    assert message.startswith("gradient norm " + ("" if finite else "NaN or Inf (limit 100)"))
    assert message.endswith("(step 2 skipped; samples 2-a, 2-b)")
    assert all(torch.isfinite(p).all() for p in stage.parameters())


@pytest.mark.parametrize("kind", PRECISIONS)
def test_a_loss_that_is_nan_is_refused_and_named(toy, caplog, kind):
    watch, both = Watch(), guards()
    stage, data, trainer = toy(*both, watch, poison={2}, **precision(kind))
    with caplog.at_level(logging.WARNING, logger="callbacks.step_guard"):
        trainer.fit(stage, datamodule=data)
    assert torch.equal(watch.weights[2], watch.weights[1])
    assert [guard.skipped for guard in both] == [1, 1]
    assert "loss nan is not within -1e+06 and 1e+06 (step 2 skipped; samples 2-a, 2-b)" in caplog.messages


def test_a_window_of_accumulation_is_refused_whole_as_the_large_batch_would_be(toy, caplog):
    """Batches 2 and 3 make one step; 2 is broken, and named alone. What is left equals a run without the two."""
    watch = Watch()
    stage, data, trainer = toy(*guards(), watch, poison={2}, accumulate_grad_batches=2)
    with caplog.at_level(logging.WARNING, logger="callbacks.step_guard"):
        trainer.fit(stage, datamodule=data)
    assert trainer.global_step == 3
    assert torch.equal(watch.weights[3], watch.weights[1])
    assert "loss nan is not within -1e+06 and 1e+06; in the batch of 2-a, 2-b" in caplog.text
    other, whole, alone = toy(*guards(), accumulate_grad_batches=2)
    loader = [batch for number, batch in enumerate(whole.loader()) if number not in (2, 3)]
    alone.fit(other, DataLoader(loader, batch_size=None))
    assert torch.equal(other.model.weight, stage.model.weight)


def test_training_ends_when_nothing_is_right_any_more(toy):
    stage, data, trainer = toy(*guards(patience=3), poison=range(1, 6))
    with pytest.raises(RuntimeError, match=r"step 3: loss nan .*: 3 skipped steps in a row; lower optim.lr.*3-a"):
        trainer.fit(stage, datamodule=data)


def test_the_error_names_a_broken_weight(toy):
    stage, data, trainer = toy(*guards(patience=2))
    stage.model.weight.data[0, 1] = float("inf")
    with pytest.raises(RuntimeError, match=r"2 skipped steps in a row; model\.weight holds NaN=0, Inf=1: start again"):
        trainer.fit(stage, datamodule=data)


def test_one_good_step_forgives_the_bad_ones(toy, tmp_path):
    both = guards(patience=2)
    stage, data, trainer = toy(*both, poison={0, 2, 4})
    trainer.fit(stage, datamodule=data)
    assert both[0].skipped == both[1].skipped == 3
    with (tmp_path / "metrics.csv").open() as file:
        counts = [row["toy/train/refused_by_gradient_guard"] for row in csv.DictReader(file)]
    assert [float(count) for count in counts if count] == [1, 1, 2, 2, 3, 3]


def test_a_resumed_run_goes_on_counting():
    guard = GradientGuard(max_norm=1.0, patience=3)
    guard.skipped, guard.in_a_row = 5, 2
    other = GradientGuard(max_norm=1.0, patience=3)
    other.load_state_dict(guard.state_dict())
    assert (other.skipped, other.in_a_row) == (5, 2)


@pytest.mark.parametrize("number", [0, 1])
def test_each_guard_works_alone(toy, number):
    guard = guards()[number]
    stage, data, trainer = toy(guard, poison={2})
    trainer.fit(stage, datamodule=data)
    assert guard.skipped == 1
    assert torch.isfinite(stage.model.weight).all()


def test_a_guarded_run_equals_an_unguarded_one(toy):
    """Clipping with the guard's norm is clipping: bit for bit."""
    trained = []
    for callbacks in (guards(), ()):
        stage, data, trainer = toy(*callbacks, gradient_clip_val=0.1)
        trainer.fit(adam(stage), datamodule=data)
        trained.append(stage.model.weight.detach())
    assert torch.equal(*trained)


def test_clipping_by_value_stays_what_it_is(toy):
    trained = []
    for callbacks in (guards(), ()):
        stage, data, trainer = toy(*callbacks, gradient_clip_val=0.01, gradient_clip_algorithm="value")
        trainer.fit(stage, datamodule=data)
        trained.append(stage.model.weight.detach())
    assert torch.equal(*trained)


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device: reading a number."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            Reads.count += 1
        return function(*args, **(kwargs or {}))


class CountReads(Callback):
    """Within a guard's own hooks: from the start of a batch to its optimizer step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.mode = Reads()
        self.mode.__enter__()

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if getattr(self, "mode", None) is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None


def test_a_step_reads_the_device_once(toy, monkeypatch):
    """As on an accelerator: no number is read before the verdict, which reads one tensor (`tolist` is one copy)."""
    monkeypatch.setattr(finite_guard, "FREE_TO_READ", ())
    verdicts = []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x, tolist=torch.Tensor.tolist: verdicts.append(1) or tolist(x))
    Reads.count = 0
    stage, data, trainer = toy(CountReads(), *guards())
    trainer.fit(stage, datamodule=data)
    assert Reads.count == 0
    assert len(verdicts) == 6, "once a step"


class OnSecondRank(ToyStage):
    """Only rank 1 meets the broken batch, and both write down what they saw."""

    def step(self, batch):
        self.poison = {2} if self.global_rank == 1 else set()
        return super().step(batch)

    def on_train_end(self):
        folder = Path(self.trainer.default_root_dir)
        watch = next(callback for callback in self.trainer.callbacks if isinstance(callback, Watch))
        messages = [record.getMessage() for record in records.messages]
        torch.save({"weights": watch.weights, "messages": messages}, folder / f"{self.global_rank}.pt")


class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record)


records = Records()


def refuse(folder):
    """What each of two ranks does."""
    logging.getLogger("callbacks.step_guard").addHandler(records)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[*guards(), Watch()],
        use_distributed_sampler=False, default_root_dir=folder,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(OnSecondRank(), datamodule=ToyData())


def test_two_ranks_refuse_together(tmp_path):
    """With gloo: rank 1's loss is NaN, its gradients reach rank 0 by the average."""
    run_ranks(refuse, str(tmp_path), ranks=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert all(map(torch.equal, first["weights"], second["weights"]))
    assert torch.equal(first["weights"][2], first["weights"][1])
    assert not torch.equal(first["weights"][3], first["weights"][2])
    assert first["messages"][0] == "Numerical instability on another rank (step 2 skipped; samples 2-a, 2-b)"
    assert second["messages"][0].startswith("loss nan is not within")
