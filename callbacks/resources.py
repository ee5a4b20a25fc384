"""`<stage>/train/peak_memory_mib` and, where something is compiled, `<stage>/train/recompiles`, at the logging interval."""

import resource
import sys
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

MIB = 2**20


def peak_memory_mib(device: torch.device) -> float:
    """The most memory so far: of a GPU what its tensors took, elsewhere what this process did."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024  # bytes there, else KiB


class Recompiles:
    """Counts compilations of code that torch.compile had compiled before, for other shapes or values."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, about: Any) -> None:
        """compile_id is FRAME/NUMBER, the number of the compilation of that frame from 0."""
        number = str(about.compile_id).rpartition("/")[2].partition("_")[0]
        self.count += number.isdigit() and int(number) > 0 and about.callback_trigger.name == "DYNAMO"


class Resources(Callback):
    """Memory, and compilations by torch.compile."""

    def __init__(self) -> None:
        self._recompiles: Recompiles | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is imported for it: it takes seconds, and what compiles has done so."""
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is not None and getattr(pl_module, "compile_model", False):
            self._recompiles = Recompiles()
            dynamo.callback_handler.register_start_callback(self._recompiles.note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        dynamo = sys.modules.get("torch._dynamo")
        if self._recompiles is not None and dynamo is not None:
            dynamo.callback_handler.remove_start_callback(self._recompiles.note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        found = {"peak_memory_mib": peak_memory_mib(pl_module.device)}
        if self._recompiles is not None:
            found["recompiles"] = float(self._recompiles.count)
        pl_module.log_dict({f"{pl_module.name}/train/{name}": value for name, value in found.items()})
