"""Stores the state of every random generator in the checkpoint, which Lightning does not; validation leaves them untouched."""

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from muomni.distributed import collectives

State = dict[str, Any]


def read_state(device: torch.device | None = None) -> State:
    """States of the python, numpy and torch generators, and of the GPU `device` that this process computes on; plain data, so
    that `weights_only` loading works."""
    legacy = np.random.get_state()  # noqa: NPY002  (libraries draw from the global generator)
    assert isinstance(legacy, tuple)
    generator, keys, position, has_gauss, gauss = legacy
    return {
        "python": list(random.getstate()[1]),
        "numpy": [str(generator), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "gpu": torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None,
    }


def write_state(state: State, device: torch.device | None = None) -> None:
    """Restore the states of `read_state`. The machine may have fewer GPUs, or none: states of missing GPUs
    are ignored."""
    random.setstate((3, tuple(state["python"]), None))
    generator, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((generator, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device is not None and device.type == "cuda":
        index = device.index or 0
        older = state.get("cuda") or []  # of each GPU of the machine, as checkpoints once had them
        own = older[index] if index < len(older) else state.get("gpu")
        if own is not None:
            torch.cuda.set_rng_state(own, device)


class RandomState(Callback):
    """Restores every rank's generators when a run is resumed.

    Validation uses generators of its own, seeded the same each time: it can be skipped, repeated or killed without
    changing a bit of training, and two validations differ by the model alone.
    """

    def __init__(self) -> None:
        self._restored: list[State] | None = None
        self._outside: State | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """States of all ranks; a collective operation."""
        own = self._outside or read_state(pl_module.device)
        checkpoint["random_states"] = collectives.all_gather_object(own)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the states until training starts: building loaders in between may draw numbers."""
        self._restored = checkpoint.get("random_states")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states; a rank that the checkpoint lacks keeps its own."""
        states, self._restored = self._restored, None
        if states is not None and trainer.global_rank < len(states):
            write_state(states[trainer.global_rank], pl_module.device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._outside = read_state(pl_module.device)
        random.seed(trainer.global_rank)
        np.random.seed(trainer.global_rank)  # noqa: NPY002
        torch.manual_seed(trainer.global_rank)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._outside is not None
        state, self._outside = self._outside, None
        write_state(state, pl_module.device)
