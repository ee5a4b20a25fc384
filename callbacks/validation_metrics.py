"""Decoding metrics of the validation split, by the stage's evaluator: only if `monitor` names one, since decoding takes time.

A metric that the data cannot give is refused before the first step: the evaluator measures the untrained model first. Where
processes share the model it is refused in the first validation.
"""

import itertools
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.random_state import read_state, write_state
from muomni.distributed import collectives


class ValidationMetrics(Callback):
    """Logs `<stage>/val/<metric>` of each validation, next to its losses.

    Args:
        monitor: `<stage>/val/<name>`; of a loss nothing is decoded. samples: at most so many of the split's first (of those
            that are validated) are decoded; None: all.
    """

    def __init__(self, *, monitor: str, samples: int | None) -> None:
        self.monitor, self.samples = monitor, samples
        self._left = 0.0
        self._losses: set[str] = {monitor}
        """What a validation logs without an evaluator; all, until it is known."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError for a monitor that validation does not log, with the names that it does."""
        self._losses = {f"{pl_module.name}/val/loss"}
        if self.monitor in self._losses:
            return
        if isinstance(
            trainer.strategy, ModelParallelStrategy
        ):  # a model that is shared cannot be read before it is trained
            self._losses |= {f"{pl_module.name}/val/{name}" for name in pl_module.loss_names}  # type: ignore[union-attr]
            return
        outside, training = read_state(pl_module.device), pl_module.training
        pl_module.eval()
        with torch.no_grad():
            self._losses |= self._loss_names(trainer, pl_module)
            if self.monitor not in self._losses:
                self._check_metric(trainer, pl_module)
        pl_module.train(training)
        write_state(outside, pl_module.device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_active(trainer):
            self._begin(pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Decode the batch, of the first `samples` samples."""
        if self._is_active(trainer) and self._left > 0:
            self._update(pl_module, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what several processes have measured together."""
        if not self._is_active(trainer):
            return
        evaluator: Any = pl_module.evaluator
        if collectives.num_processes() > 1:
            states = collectives.all_gather_object(evaluator.state)
            evaluator.reset("val")
            for state in states:
                evaluator.merge(state)
        metrics = {f"{pl_module.name}/val/{name}": float(value) for name, value in evaluator.compute().items()}
        if self.monitor not in metrics:
            raise ValueError(self._refusal(set(metrics)))
        pl_module.log_dict({name: value for name, value in metrics.items() if name not in self._losses})

    def _is_active(self, trainer: Trainer) -> bool:
        return trainer.state.fn == "fit" and not trainer.sanity_checking and self.monitor not in self._losses

    def _begin(self, stage: Any) -> None:
        stage.evaluator.reset("val")
        self._left = float("inf") if self.samples is None else -(-self.samples // collectives.num_processes())

    def _update(self, stage: Any, batch: Any) -> None:
        """In float32, as in a test."""
        if stage.is_spare("val"):
            return
        with torch.autocast(stage.device.type, enabled=False):
            stage.evaluator.update(batch)
        self._left -= len(batch.sample_ids)

    def _loss_names(self, trainer: Trainer, stage: Any) -> set[str]:
        """Names under which a validation logs losses: of the first batch of each process."""
        own: set[str] = set()
        if not stage.is_spare("val"):
            for batch in itertools.islice(trainer.datamodule.val_dataloader(), 1):  # type: ignore[attr-defined]
                own = set(stage.step(trainer.strategy.batch_to_device(batch)))
        names = set[str]().union(*collectives.all_gather_object(own))  # type: ignore[arg-type]
        sets = [each for each in getattr(trainer.datamodule, "sets", ()) if each.val is not None]  # type: ignore[attr-defined]
        splits = ["val", *(f"val_{each.name}" for each in sets)]
        logged = {"loss"} | (names if len(names) > 1 else set())
        return {f"{stage.name}/{split}/{name}" for split in splits for name in logged}

    def _check_metric(self, trainer: Trainer, stage: Any) -> None:
        """Raise ValueError for a monitor that the evaluator does not measure either."""
        found = self._measurable(trainer, stage, batches=1)
        if self.monitor not in found:  # it may be of samples that come later
            found = self._measurable(trainer, stage, batches=None)
        if self.monitor not in found:
            raise ValueError(self._refusal(found))

    def _refusal(self, found: set[str]) -> str:
        known = ", ".join([*sorted(self._losses), *sorted(found - self._losses)])
        return f"monitor={self.monitor}: validation measures no such thing; it measures {known}"

    def _measurable(self, trainer: Trainer, stage: Any, *, batches: int | None) -> set[str]:
        """Names of the metrics that the first batches of the processes give together; None: all batches."""
        self._begin(stage)
        own: set[str] = set()
        if not stage.is_spare("val"):
            for batch in itertools.islice(trainer.datamodule.val_dataloader(), batches):  # type: ignore[attr-defined]
                if self._left > 0:
                    self._update(stage, trainer.strategy.batch_to_device(batch))
            own = {f"{stage.name}/val/{name}" for name in stage.evaluator.compute()}
        return set[str]().union(*collectives.all_gather_object(own))  # type: ignore[arg-type]
