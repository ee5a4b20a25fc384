"""An exponential moving average of the trained weights (Polyak & Juditsky 1992; decay warmed up as in Tarvainen & Valpola 2017,
arXiv:1703.01780): less noisy than the last step's weights; validation, export and tests use it if configured.

The average is state of this callback, so checkpoints contain it and a resumed run continues it; the model weights in a
checkpoint are always the trained ones. Buffers and codebooks with averages of their own are used as they are.

Where processes share the model (FSDP2) each averages its shard of every weight; checkpoints contain the full average.

Not Lightning's WeightAveraging: it keeps a deep copy of the whole module, and averages buffers and frozen weights as well.
"""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from callbacks.whole_weights import like, own_shards, whole
from muomni.checkpoints.export import first_broken


class EMA(Callback):
    """average <- decay x average + (1 - decay) x weights, after each optimizer step.

    Args:
        decay: in (0, 1). Step n uses min(decay, (1 + n) / (10 + n)), so that an early average discards the initial weights.
        validate: use the average in validation. export: export the average, and test it after training.
    """

    def __init__(self, *, decay: float, validate: bool, export: bool) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"callbacks.ema.decay={decay} must be between 0 and 1")
        self.decay, self.validate, self.export = decay, validate, export
        self.average: dict[str, Tensor] = {}
        self._updates, self._step = 0, 0
        self._trained: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Initialise the average with the weights, unless a checkpoint restored it."""
        weights = _trained_weights(pl_module)
        self._step = trainer.global_step
        if not self.average:
            self.average = {name: weight.clone() for name, weight in weights.items()}
        if self.average.keys() != weights.keys():
            differing = sorted(self.average.keys() ^ weights.keys())
            raise ValueError(
                f"callbacks.ema: the checkpoint's average does not fit this model: {differing[:3]} (resume=never)"
            )
        self.average = {name: like(value, weights[name]) for name, value in self.average.items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update the average if the batch completed an optimizer step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        weights = _trained_weights(pl_module)
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(
            own_shards(self.average.values()), own_shards(weights[name] for name in self.average), 1 - decay
        )
        self._updates += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.validate and self.average:
            self._trained = {name: weight.clone() for name, weight in _trained_weights(pl_module).items()}
            _put(self.average, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the weights, bit for bit."""
        if self._trained is not None:
            share: Any = getattr(pl_module, "share", None)
            if share is not None:  # validation has gathered the weights; the shards are what is trained
                share()
            _put(self._trained, pl_module)
            self._trained = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the weights: checkpoints contain the trained ones."""
        self.on_validation_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the average in for export and test, after the last checkpoint."""
        if self.export and self.average:
            _put(self.average, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average. Raises an error if it is not finite."""
        average = {name: whole(value) for name, value in self.average.items()}
        broken = first_broken(average)
        if broken is not None:
            raise ValueError(f"the average of {broken}; it is not saved, the last good checkpoint stays")
        return {"average": average, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self._updates = dict(state_dict["average"]), int(state_dict["updates"])


def _trained_weights(module: LightningModule) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def _put(values: dict[str, Tensor], module: LightningModule) -> None:
    weights = _trained_weights(module)
    torch._foreach_copy_(own_shards(weights[name] for name in values), own_shards(values.values()))
