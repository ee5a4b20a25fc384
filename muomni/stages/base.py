"""What every stage shares: the weighted sum of named losses, logging, optimizers, and metrics by split."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from muomni.optim.groups import parameter_groups

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
ScheduleFactory = Callable[[Optimizer], LRScheduler]


class Stage(LightningModule):
    """A stage of training.

    A subclass gives `name`, `step`, the three methods of a split (`begin_split`, `test_batch`, `finish_split`) and what
    it hands over (`export_parts`, `export_facts`, `export_files`).

    Args:
        optimizer: parameter groups -> optimizer. schedule: optimizer -> learning-rate schedule, one step a batch.
        weight_decay: of the groups that decay. loss_weights: by the names that `step` gives; a missing one is 1.
        compile_model: compile the parts that `compiled_modules` names when training starts.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        weight_decay: float,
        loss_weights: Mapping[str, float],
        compile_model: bool,
    ) -> None:
        super().__init__()
        self.optimizer_factory, self.schedule_factory = optimizer, schedule
        self.weight_decay, self.loss_weights = weight_decay, dict(loss_weights)
        self.compile_model = compile_model
        self.results: dict[str, float] = {}
        self._split: str | None = None

    # --- what a subclass gives -----------------------------------------------------------------------------------

    def step(self, batch: Any) -> dict[str, Tensor]:
        """Named scalar losses of a batch."""
        raise TypeError(f"{type(self).__name__} does not define step")

    def begin_split(self, split: str) -> None:
        """A held-out split starts: reset what is gathered."""
        raise TypeError(f"{type(self).__name__} does not define begin_split")

    def test_batch(self, batch: Any, split: str) -> None:
        """Gather from one batch of a split."""
        raise TypeError(f"{type(self).__name__} does not define test_batch")

    def finish_split(self, split: str) -> dict[str, float]:
        """Metric -> value of the split that ends."""
        raise TypeError(f"{type(self).__name__} does not define finish_split")

    def export_parts(self) -> dict[str, nn.Module]:
        """Parts of the export folder, each registered with `@part`."""
        raise TypeError(f"{type(self).__name__} does not define export_parts")

    def export_facts(self) -> dict[str, Any]:
        """What a later stage must agree with: frontends and fingerprints, plain data."""
        return {"stage": self.name}

    def export_files(self) -> dict[str, Path]:
        """Files copied into the export: name -> path."""
        return {}

    def samples(self) -> list[dict[str, Any]]:
        """A few inputs, answers and truths of the splits tested so far, for logger and report card."""
        return []

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        """(name, module, learning-rate factor) of what is trained; frozen parameters inside are left out."""
        return [(self.name, self, 1.0)]

    def compiled_modules(self) -> list[nn.Module]:
        """Modules that `compile_model` compiles in place."""
        return []

    # --- what they share -----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Compile where asked; evaluation alone runs eagerly."""
        if stage == "fit" and self.compile_model:
            for module in self.compiled_modules():
                module.compile()

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of named losses."""
        total = torch.zeros((), device=self.device)
        for name, loss in losses.items():
            total = total + self.loss_weights.get(name, 1.0) * loss
        return total

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Losses of a batch, logged by name; their weighted sum."""
        losses = self.step(batch)
        total = self.total_loss(losses)
        self._log_losses("train", losses, total, batch)
        return total

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """The same losses on held-out data."""
        losses = self.step(batch)
        self._log_losses("val", losses, self.total_loss(losses), batch)

    def _log_losses(self, split: str, losses: Mapping[str, Tensor], total: Tensor, batch: Any) -> None:
        named = {f"{self.name}/{split}/loss": total.detach()}
        if len(losses) > 1:
            named |= {f"{self.name}/{split}/{name}": loss.detach() for name, loss in losses.items()}
        training = split == "train"
        size = len(batch.sample_ids)
        self.log_dict(named, on_step=training, on_epoch=not training, batch_size=size, sync_dist=not training)
        if training:
            self.log("loss", total.detach(), prog_bar=True, logger=False, batch_size=size)

    def on_test_start(self) -> None:
        """Forget earlier results."""
        self.results = {}
        self._split = None

    def test_step(self, batch: Any, batch_index: int, dataloader_idx: int = 0) -> None:
        """Gather metrics; loaders come one after the other, one a split."""
        split = self.trainer.datamodule.test_splits[dataloader_idx]  # type: ignore[attr-defined]
        if split != self._split:
            self._close_split()
            self._split = split
            self.begin_split(split)
        self.test_batch(batch, split)

    def on_test_epoch_end(self) -> None:
        """Close the last split and log all metrics."""
        self._close_split()
        self.log_dict(self.results, rank_zero_only=True)

    def _close_split(self) -> None:
        if self._split is not None:
            for metric, value in self.finish_split(self._split).items():
                self.results[f"{self.name}/{self._split}/{metric}"] = float(value)
            self._split = None

    def configure_optimizers(self) -> Any:
        """One optimizer over all groups, one schedule by step."""
        groups = parameter_groups(self.trained_modules(), weight_decay=self.weight_decay)
        optimizer = self.optimizer_factory(groups)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule_factory(optimizer), "interval": "step"},
        }
