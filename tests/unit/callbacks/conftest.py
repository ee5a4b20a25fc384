"""A stage small enough to train in a moment, on batches made of nothing."""

from dataclasses import dataclass

import pytest
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from muomni.evaluation.base import Evaluator, State
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


@dataclass(slots=True)
class ToyBatch:
    ids: torch.Tensor
    sample_ids: list[str]

    def tokens(self):
        return torch.tensor(6), 8

    def to(self, device, non_blocking=True):
        return self


@dataclass
class Count(State):
    count: int = 0


class BatchCount(Evaluator):
    """Counts batches; its examples are `given`."""

    given = ()
    state_type = Count

    def reset(self, split):
        super().reset(split)
        self.examples.extend(self.given)

    def update(self, batch):
        self.state.count += 1

    def compute(self):
        return {"batches": self.state.count}


class ToyStage(Stage):
    """y = w . x; batch number `poison` (from 0) has a loss that is not finite."""

    name = "toy"

    def __init__(self, *, poison=()):
        training = TrainingOptions(
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
            weight_decay=0.0, loss_weights={}, compile_model=False,
        )  # fmt: skip
        super().__init__(training, model=nn.Linear(4, 1), evaluator=BatchCount(nn.Identity()))
        self.poison = set(poison)

    def step(self, batch):
        loss = self.model(batch.ids).square().mean()
        number = int(batch.sample_ids[0].split("-")[0])
        return {"square": loss * float("nan") if self.training and number in self.poison else loss}


class ToyData(LightningDataModule):
    test_splits = ["test"]

    def __init__(self, batches=6):
        super().__init__()
        self.batches, self.counted = batches, 0

    def loader(self):
        generator = torch.Generator().manual_seed(0)
        batches = [
            ToyBatch(torch.rand(2, 4, generator=generator), [f"{number}-a", f"{number}-b"])
            for number in range(self.batches)
        ]
        return DataLoader(batches, batch_size=None, generator=torch.Generator())

    train_dataloader = val_dataloader = test_dataloader = loader

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch

    def count_batch(self):
        self.counted += 1


@pytest.fixture
def toy(tmp_path):
    """Makes (stage, data, trainer) with the given callbacks, in a run folder of its own."""

    def make(*callbacks, poison=(), batches=6, logger=None, **how):
        torch.manual_seed(0)
        checkpoints = any(isinstance(callback, Checkpoint) for callback in callbacks)
        trainer = Trainer(
            callbacks=list(callbacks), default_root_dir=str(tmp_path), accelerator="cpu",
            logger=logger if logger is not None else CSVLogger(str(tmp_path), name="", version=""),
            log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=checkpoints,
            num_sanity_val_steps=0, **({"limit_val_batches": 0, "max_epochs": 1} | how),
        )  # fmt: skip
        return ToyStage(poison=poison), ToyData(batches), trainer

    return make
