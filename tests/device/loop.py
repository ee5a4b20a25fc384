"""Lightning's own loop with the configured callbacks on a GPU that the CPU pretends to be: waits for the device, step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning
from hydra.utils import instantiate
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader

from tests.device.fake_cuda import CUDA, FakeCuda

#: Callbacks that need a run folder, and wait for no device between two checkpoints.
WITHOUT = ("resume_checkpoint", "best_checkpoint", "source", "journal")
STEPS, VAL_BATCHES = 3, 1


class Accelerator(CPUAccelerator):
    """Takes any device."""

    def setup_device(self, device: Any) -> None:
        """Nothing to set up."""


class Batches(lightning.LightningDataModule):
    """make: True -> a batch to train on, False -> one to be tested with. pinned: as a loader for a GPU has them."""

    test_splits: ClassVar = ["test"]
    spare: ClassVar[set[str]] = set()

    def __init__(self, make: Callable[[bool], Any], *, pinned: bool = True) -> None:
        super().__init__()
        self.make, self.pinned = make, pinned

    def _loader(self, *, training: bool, count: int) -> Any:
        batches = [self.make(training) for _ in range(count)]
        if self.pinned:
            batches = [batch.pin_memory() for batch in batches]
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]

    def train_dataloader(self) -> Any:
        """Of one epoch."""
        return self._loader(training=True, count=STEPS)

    def val_dataloader(self) -> Any:
        return self._loader(training=True, count=VAL_BATCHES)

    def test_dataloader(self) -> Any:
        return [self._loader(training=False, count=1)]

    def count_batch(self) -> None:
        """For `DataPosition`."""


class Waits(lightning.Callback):
    """Comes last. `steps`, `validation`: what waited since the batch before, the copy of the batch to the device included."""

    def __init__(self, gpu: FakeCuda) -> None:
        self.gpu = gpu
        self.steps: list[dict[str, int]] = []
        self.validation: list[dict[str, int]] = []

    def on_train_batch_start(self, trainer: Any, stage: Any, batch: Any, *_: Any) -> None:
        assert stage.device == CUDA

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps.append(self.gpu.counted())

    def on_validation_batch_end(self, *_: Any) -> None:
        self.validation.append(self.gpu.counted())


def make_trainer(cfg: Any, waits: Waits, folder: Path, **options: Any) -> lightning.Trainer:
    """A trainer of STEPS steps and one validation after them."""
    callbacks = [
        instantiate(callback, _convert_="all")
        for name, callback in cfg.callbacks.items()
        if callback and name not in WITHOUT
    ]
    return lightning.Trainer(
        strategy=SingleDeviceStrategy(device="cuda:0", accelerator=Accelerator()), callbacks=[*callbacks, waits],
        logger=CSVLogger(str(folder)), max_steps=STEPS, val_check_interval=STEPS, limit_val_batches=VAL_BATCHES,
        num_sanity_val_steps=0, log_every_n_steps=20, gradient_clip_val=cfg.trainer.gradient_clip_val,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=str(folder), use_distributed_sampler=False,
        **options,
    )  # fmt: skip
