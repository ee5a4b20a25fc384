"""Where the time of a step goes: `<stage>/train/ms_<phase>`, milliseconds for data, forward, backward, optimizer, callbacks.

Lightning names all that it calls to its profiler; this one keeps a stack of the calls, so that each phase has its own time
without that of what it contains. `data` is the time between two steps (loading, moving to the device, writing logs). On a CPU
it is the mean over a logging interval. A GPU works on while the host goes ahead: there only the step that is logged is timed,
and the host waits for the device at the borders of its phases; other steps are not touched. `trainer.profiler=...` takes its
place.
"""

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

PHASES = ("data", "forward", "backward", "optimizer", "callbacks")
#: End of an action's name -> its phase. What has none belongs to what contains it.
ACTIONS = {".training_step": "forward", ".backward": "backward", ".optimizer_step": "optimizer"}
#: Phases at whose borders a GPU is waited for; callbacks begin and end hundreds of times a step.
BORDERS = {"forward", "backward", "data"}
BATCH, STRATEGY, CALLBACK = "run_training_batch", "[Strategy]", "[Callback]"


class PhaseProfiler(Profiler):
    """Seconds by phase since `reset`, while `active`."""

    def __init__(self) -> None:
        super().__init__()
        self.active = self.synced = False
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._phases: dict[str, str | None] = {}
        self._stack: list[tuple[str, str | None]] = []
        self._now: str | None = "data"
        self._since = 0.0

    def reset(self) -> None:
        """Begin again, between two steps."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._stack, self._now, self._since = [], "data", time.perf_counter()

    def start(self, action_name: str) -> None:
        """An action begins."""
        if not self.active:
            return
        phase = self._phase(action_name)
        if phase is not None:
            self._stack.append((action_name, self._now))
            self._switch(phase)

    def stop(self, action_name: str) -> None:
        """An action ends: what contains it resumes."""
        if self.active and self._stack and self._stack[-1][0] == action_name:
            self._switch(self._stack.pop()[1])

    def _switch(self, phase: str | None) -> None:
        if self.synced and BORDERS & {phase, self._now}:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._now is not None:
            self.seconds[self._now] += now - self._since
        self._now, self._since = phase, now

    def _phase(self, action: str) -> str | None:
        """None: it counts for what contains it."""
        if action not in self._phases:
            phase = "callbacks" if action.startswith(CALLBACK) else None
            if action == BATCH:
                phase = "optimizer"  # clipping, and what the loop does around the optimizer
            elif phase is None and (action.startswith(STRATEGY) or action.endswith(".optimizer_step")):
                phase = next((name for end, name in ACTIONS.items() if action.endswith(end)), None)
            self._phases[action] = phase
        return self._phases[action]


class StepTimes(Callback):
    """Logs the phases; stays first among the callbacks that do work in a step."""

    def __init__(self) -> None:
        self._profiler = PhaseProfiler()
        self._first = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
            trainer.profiler = self._profiler  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._profiler.synced = pl_module.device.type == "cuda"
        self._begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._profiler.active = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation is no part of the interval, and the interval begins again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._begin(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log once an interval, all but what callbacks after this one do in this very step."""
        profiler, every = self._profiler, trainer.log_every_n_steps  # type: ignore[attr-defined]
        steps = trainer.global_step - self._first  # 0 within a step, where gradients are accumulated
        due = steps > 0 and trainer.global_step % every == 0
        if due and profiler.active:
            per_step = {phase: 1000 * seconds / steps for phase, seconds in profiler.seconds.items()}
            pl_module.log_dict({f"{pl_module.name}/train/ms_{phase}": value for phase, value in per_step.items()})
        if due or (profiler.synced and steps > 0):
            self._begin(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._profiler.active = False

    def _begin(self, trainer: Trainer) -> None:
        """On a GPU only before the step that will be logged."""
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._first = trainer.global_step
        self._profiler.active = not self._profiler.synced or (trainer.global_step + 1) % every == 0
        self._profiler.reset()
