"""The reference numbers, Safety of training: what other tests do not name already.

The gradient check: tests/unit/callbacks/test_step_guard.py; precisions: tests/unit/optim/test_optimizers.py; atomic
checkpoints: tests/unit/callbacks/test_writers.py; resume, bit-exact: tests/integration/test_resume.py.
"""

from functools import partial
from types import SimpleNamespace

import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from muomni.optim.optimizers import adamw
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


class Line(Stage):
    """y = w . x towards 1."""

    name = "line"

    def __init__(self):
        optimizer = partial(adamw, lr=0.1, betas=(0.9, 0.98))
        schedule = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0)
        training = TrainingOptions(
            optimizer=optimizer, schedule=schedule, weight_decay=0.1, loss_weights={}, compile_model=False
        )  # fmt: skip
        super().__init__(training, model=nn.Linear(4, 1), evaluator=None)

    def step(self, batch):
        return {"square": (self.model(batch.ids) - 1).square().mean()}


def batches(rows):
    """Sixteen samples, so many a batch."""
    samples = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(
        [SimpleNamespace(ids=part, sample_ids=["x"] * rows) for part in samples.split(rows)], batch_size=None
    )


def test_accumulation(tmp_path):
    """N micro-batches, N/4 steps at 4; equals the large batch."""
    trained = []
    for rows, accumulate in ((2, 4), (8, 1)):
        torch.manual_seed(0)
        stage = Line()
        trainer = Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=str(tmp_path), accumulate_grad_batches=accumulate,
        )  # fmt: skip
        trainer.fit(stage, batches(rows))
        assert trainer.global_step == 16 // rows // accumulate == 2
        trained.append(stage.model.weight.detach())
    torch.testing.assert_close(*trained)


def test_checkpoints(config):
    """every 500 steps, best by the monitored metric, last."""
    callbacks = config("stage=thinker").callbacks
    assert callbacks.resume_checkpoint.every_n_train_steps == 500
    assert callbacks.best_checkpoint.monitor == "thinker/val/loss"
