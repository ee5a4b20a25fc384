"""The doctor: alarms for trainings that run but do not learn, each with a remedy in its message.

Every `every_n_steps`, and more often in the first steps, where most faults show, it hooks the model's modules for one step, looks
at its gradients and queries each symptom (symptoms/) for a finding. A finding that persists becomes an alarm: a warning in the
log, counted as `<stage>/train/alarms`. Spikes of the loss are detected at every step, and their batch is saved (spikes.py). The
doctor changes nothing.
"""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from callbacks.spikes import Spikes
from callbacks.symptoms import Observe, Symptom

log = logging.getLogger(__name__)


class Doctor(Callback):
    """Examines a training.

    Args:
        every_n_steps: interval of the examined steps. symptoms: by name. spikes: see spikes.py; None: no detection of spikes.
        first_steps: so many steps at the start of a training are examined every `first_every_n_steps`; 0: none are.
    """

    def __init__(
        self,
        *,
        every_n_steps: int,
        symptoms: dict[str, Symptom],
        spikes: Spikes | None,
        first_steps: int = 0,
        first_every_n_steps: int = 1,
    ) -> None:
        self.every_n_steps, self.symptoms, self.spikes = every_n_steps, symptoms, spikes
        self.first_steps, self.first_every_n_steps = first_steps, first_every_n_steps
        self.alarms, self._step = 0, 0
        self._since: dict[str, int] = {}
        self._active = self._changes = False
        self._batch: Any = None
        self._hooks = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for symptom in self.symptoms.values():
            for module in pl_module.modules():
                observe = symptom.observer(module)
                if observe is not None:
                    self._hooks.callback(module.register_forward_hook(self._hook(observe)).remove)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hooks.close()

    def _hook(self, observe: Observe) -> Any:
        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            if self._active:
                with torch.no_grad():
                    observe(arguments, output)

        return note

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Enable the hooks in the steps that are examined."""
        self._step = trainer.global_step
        sampler = getattr(getattr(trainer, "datamodule", None), "batch_sampler", None)
        self._changes = sampler is not None and sampler.curriculum_ends
        interval = self.first_every_n_steps if self._step < self.first_steps else self.every_n_steps
        self._active = self._step % interval == 0
        self._batch = batch if self._active else None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Let the symptoms look at the gradients of an examined step."""
        if self._active:
            for symptom in self.symptoms.values():
                symptom.examine_gradients(pl_module, self._batch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, _: Any, batch: Any, *__: Any) -> None:
        """Check the loss for a spike, and the symptoms after an examined step."""
        if self.spikes is not None:
            folder = Path(trainer.default_root_dir) / "spikes"
            spike = self.spikes.look(pl_module, batch, step=self._step, rank=trainer.global_rank, folder=folder)
            if spike is not None:
                self._alarm(spike)
            if self._changes:  # this batch is compared with later ones
                self.spikes.forget()
        if self._active:
            self._active, self._batch = False, None
            self._examine(pl_module, batch)
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log(f"{pl_module.name}/train/alarms", float(self.alarms))

    def _examine(self, pl_module: LightningModule, batch: Any) -> None:
        """Check each symptom for a finding, and whether it has lasted."""
        for name, symptom in self.symptoms.items():
            finding = symptom.finding(pl_module, batch)
            if finding is None:
                self._since.pop(name, None)
                continue
            known, since = name in self._since, self._since.setdefault(name, self._step)
            if self._step - since >= symptom.patience and (symptom.patience or not known):
                self._alarm(f"step {self._step}: {finding}")
                self._since[name] = self._step  # repeated when it has lasted as long again

    def _alarm(self, message: str) -> None:
        self.alarms += 1
        log.warning("doctor: %s", message)

    def state_dict(self) -> dict[str, Any]:
        """Count of alarms, first step of each finding and the loss at first, so that a resumed run continues them."""
        return {"alarms": self.alarms, "since": dict(self._since), "first_loss": self.spikes and self.spikes.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alarms, self._since = int(state_dict["alarms"]), dict(state_dict["since"])
        if self.spikes is not None:
            self.spikes.first = state_dict.get("first_loss")
