"""run.json in the run folder: how long training and measuring took, of how many parameters, on what machine."""

import datetime
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from muomni.checkpoints.atomic_write import write_text
from muomni.run.hardware import describe_machine


class Journal(Callback):
    """Times fit, validate and test in seconds; a resumed run adds to the time of its fit."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._earlier = 0.0
        self._resumed = 0
        self._began = time.perf_counter()
        self._started = datetime.datetime.now().isoformat(timespec="seconds")
        self._parameters: dict[str, int] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._began = time.perf_counter()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parameters = list(pl_module.parameters())
        self._parameters = {
            "parameters": sum(p.numel() for p in parameters),
            "parameters_trained": sum(p.numel() for p in parameters if p.requires_grad),
        }

    def state_dict(self) -> dict[str, Any]:
        """Seconds of fit so far, start time, and how often the run was resumed."""
        seconds = self._earlier + time.perf_counter() - self._began
        return {"fit": seconds, "started": self._started, "resumed": self._resumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore start time and seconds of fit, and count the resumption."""
        self._earlier, self._started = float(state_dict["fit"]), str(state_dict["started"])
        self._resumed = int(state_dict["resumed"]) + 1

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write run.json at the end of a task, failed or not."""
        seconds = time.perf_counter() - self._began
        task = TrainerFn(stage).value
        self.seconds[task] = seconds + (self._earlier if task == "fit" else 0.0)
        if not trainer.is_global_zero:
            return
        document = {
            "stage": str(pl_module.name),
            "command": shlex.join(["python", *sys.argv]),
            "started": self._started,
            "seconds": {task: round(value, 1) for task, value in self.seconds.items()},
            "steps": trainer.global_step,
            "resumed": self._resumed,
            **self._parameters,
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "machine": describe_machine(),
        }
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "run.json", json.dumps(document, indent=2) + "\n")
