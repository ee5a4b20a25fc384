"""`debug=profile`: a trace of a few steps and the operations that took most of their time, in `<run>/profile/`.

trace.json.gz     for chrome://tracing or ui.perfetto.dev
operations.txt    the ten most expensive operations by their own time
"""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile, schedule

log = logging.getLogger(__name__)

ROWS = 10


class Profile(Callback):
    """Records steps.

    Args:
        warm_up: steps before, which compile and fill caches. steps: that are recorded.
    """

    def __init__(self, *, warm_up: int, steps: int) -> None:
        self.warm_up, self.steps = warm_up, steps
        self._profile: Any = None
        self._folder = Path()
        self._on_gpu = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.max_steps < self.warm_up + self.steps:
            raise ValueError(
                f"debug=profile: trainer.max_steps={trainer.max_steps} is less than the {self.warm_up} steps of warm-up and "
                f"{self.steps} that are recorded: raise it, or lower callbacks.profile.steps"
            )
        self._folder, self._on_gpu = Path(trainer.default_root_dir) / "profile", pl_module.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        plan = schedule(wait=max(0, self.warm_up - 1), warmup=1, active=self.steps, repeat=1)
        self._profile = profile(activities=activities, schedule=plan, on_trace_ready=self._write, record_shapes=True)
        self._profile.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._profile.step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def _write(self, recorded: torch.profiler.profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self._folder / "trace.json.gz"))
        order = "self_cuda_time_total" if self._on_gpu else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=50)
        (self._folder / "operations.txt").write_text(table + "\n")
        log.info("%s\nthe trace: %s (ui.perfetto.dev shows it)", table, self._folder / "trace.json.gz")
