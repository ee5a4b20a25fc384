"""The average of the weights: computed by hand, swapped and back, kept, exported."""

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.ema import EMA
from tests.ranks import run_ranks
from tests.unit.callbacks.conftest import ToyData, ToyStage


def ema(decay=0.9, validate=True, export=True):
    return EMA(decay=decay, validate=validate, export=export)


class See(Callback):
    """The weights after each step and those that validation uses."""

    def __init__(self):
        self.trained, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.trained.append(pl_module.model.weight.detach().clone())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validated.append(pl_module.model.weight.detach().clone())

    def on_train_end(self, trainer, pl_module):
        self.after = pl_module.model.weight.detach().clone()


def test_it_is_the_average_worked_out_by_hand(toy):
    average, see = ema(export=False), See()
    stage, data, trainer = toy(average, see)
    expected = stage.model.weight.detach().clone()
    trainer.fit(stage, datamodule=data)
    for n, weight in enumerate(see.trained):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.average["model.weight"], expected)
    assert torch.equal(stage.model.weight, see.trained[-1]), "without export the weights are the trained ones"


def test_validation_sees_the_average_and_training_goes_on_with_the_weights(toy):
    seen = []
    for validate in (True, False):
        average, see = ema(validate=validate, export=False), See()
        stage, data, trainer = toy(average, see, val_check_interval=3)
        trainer.limit_val_batches = 1
        trainer.fit(stage, datamodule=data)
        seen.append(see)
        assert torch.equal(see.validated[0], see.trained[2]) != validate
    assert all(map(torch.equal, seen[0].trained, seen[1].trained)), "bit for bit"


def test_export_takes_the_average_once_training_is_over(toy):
    average, see = ema(), See()
    stage, data, trainer = toy(average, see)
    trainer.fit(stage, datamodule=data)
    assert torch.equal(see.after, see.trained[-1])
    assert torch.equal(stage.model.weight, average.average["model.weight"])
    assert not torch.equal(stage.model.weight, see.trained[-1])


def test_an_accumulated_step_counts_once(toy):
    average = ema()
    stage, data, trainer = toy(average, accumulate_grad_batches=2)
    trainer.fit(stage, datamodule=data)
    assert average.state_dict()["updates"] == 3


def test_a_resumed_run_ends_with_the_same_average(toy, tmp_path):
    whole = ema(export=False)
    stage, data, trainer = toy(whole)
    trainer.fit(stage, datamodule=data)
    first = ema(export=False)
    stage, data, trainer = toy(first, max_steps=4)
    trainer.fit(stage, datamodule=data)
    trainer.save_checkpoint(tmp_path / "at-4.ckpt")
    saved = torch.load(tmp_path / "at-4.ckpt", weights_only=True)["state_dict"]["model.weight"]
    assert not torch.equal(saved, first.average["model.weight"]), "the weights in a checkpoint are the trained ones"
    again = ema(export=False)
    stage, data, trainer = toy(again)
    rest = list(data.loader())[4:]
    data.train_dataloader = lambda: torch.utils.data.DataLoader(rest, batch_size=None)
    again.load_state_dict(torch.load(tmp_path / "at-4.ckpt", weights_only=True)["callbacks"]["EMA"])
    stage.load_state_dict(torch.load(tmp_path / "at-4.ckpt", weights_only=True)["state_dict"])
    trainer.fit(stage, datamodule=data)
    assert torch.equal(again.average["model.weight"], whole.average["model.weight"])


def test_an_average_of_another_model_is_refused(toy):
    average = ema()
    average.load_state_dict({"average": {"other.weight": torch.ones(1)}, "updates": 3})
    stage, data, trainer = toy(average)
    with pytest.raises(ValueError, match=r"average does not fit this model: \['model.bias'"):
        trainer.fit(stage, datamodule=data)


def test_a_broken_average_is_not_saved():
    average = ema()
    average.average = {"w": torch.tensor([float("nan")])}
    with pytest.raises(ValueError, match="the average of w holds NaN=1, Inf=0"):
        average.state_dict()


def test_a_decay_that_is_none():
    with pytest.raises(ValueError, match=r"callbacks.ema.decay=1.5 must be between 0 and 1"):
        ema(decay=1.5)


class Wider(ToyStage):
    """Two layers, so that each process has a part of each."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 1))
        self.optimizer_factory = lambda groups: torch.optim.AdamW(groups, lr=0.01)  # Lightning wants a state to restore


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append(float(trainer.callback_metrics["toy/val/loss"]))


def averaged(folder, ranks):
    """Steps, validations under the average in their middle, a checkpoint, and a run that goes on from it."""
    results = []
    for steps, resumed in ((4, None), (6, f"{folder}/at-4.ckpt")):
        torch.manual_seed(0)
        average, losses = ema(export=False), Losses()
        shared = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False)
        trainer = Trainer(
            accelerator="cpu", devices=ranks, strategy=shared if ranks > 1 else "auto", max_steps=steps, max_epochs=-1,
            val_check_interval=2, limit_val_batches=2, callbacks=[average, losses], logger=False, num_sanity_val_steps=0,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            default_root_dir=folder,
        )  # fmt: skip
        data = ToyData()
        data.spare = set()
        trainer.fit(Wider(), datamodule=data, ckpt_path=resumed)
        state = average.state_dict()
        trainer.save_checkpoint(f"{folder}/at-{steps}.ckpt")
        results.append((losses.seen, {name: value.tolist() for name, value in state["average"].items()}))
    return results


@pytest.mark.slow
def test_processes_that_share_the_model_keep_one_average(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = averaged(str(tmp_path / "one"), 1)
    for rank in run_ranks(averaged, str(tmp_path / "two"), 2, ranks=2):
        for (losses, average), (expected_losses, expected) in zip(rank, alone, strict=True):
            assert losses == pytest.approx(expected_losses, rel=1e-4)
            for name, value in expected.items():
                assert torch.allclose(torch.tensor(average[name]), torch.tensor(value), rtol=1e-4), name
    saved = [
        torch.load(tmp_path / f"{kind}/at-4.ckpt", weights_only=True)["callbacks"]["EMA"] for kind in ("one", "two")
    ]
    for name, value in saved[0]["average"].items():
        torch.testing.assert_close(saved[1]["average"][name], value)
