"""Keeps the state of every random generator in the checkpoint, which Lightning does not, and validation out of it."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

State = dict[str, Any]


def read_state() -> State:
    """States of python, numpy, torch and CUDA generators; plain data, so that `weights_only` loading works."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  (libraries draw from the global generator)
    return {
        "python": list(random.getstate()[1]),
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def write_state(state: State) -> None:
    """Put back what `read_state` gave."""
    random.setstate((3, tuple(state["python"]), None))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class RandomState(Callback):
    """Restores every rank's generators when a run is taken up.

    Validation draws from generators of its own, the same each time: it can be left out, repeated or killed without
    changing a bit of training, and two validations differ by the model alone.
    """

    def __init__(self) -> None:
        self._restored: list[State] | None = None
        self._outside: State | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """States of all ranks now; every rank calls it."""
        own = self._outside or read_state()
        states: list[Any] = [None] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, own)
        else:
            states[0] = own
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember them until training starts: building loaders in between may draw."""
        self._restored = checkpoint.get("random_states")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them back; a rank that the checkpoint's run did not have keeps its own."""
        states, self._restored = self._restored, None
        if states is not None and trainer.global_rank < len(states):
            write_state(states[trainer.global_rank])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the generators of training."""
        self._outside = read_state()
        random.seed(trainer.global_rank)
        np.random.seed(trainer.global_rank)  # noqa: NPY002
        torch.manual_seed(trainer.global_rank)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Come back to them."""
        assert self._outside is not None
        state, self._outside = self._outside, None
        write_state(state)
