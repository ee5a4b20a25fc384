"""How a training reports to its trial: the values of the validation curve, and why it ended early.

A trial that ended early has the user attribute `ended`, "pruned: .." or "diverged: ..": whoever continues it after a kill knows.
"""

import math
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial

from muomni.sweep.study import load, read_spec

ENDED = "ended"


class TrialReporter:
    """A trial, for the training that belongs to it.

    Args:
        sweep: the sweep's folder. number: of the trial. offset: of its steps (`Spec.offset`).
    """

    #: Of a training that ends itself because its trial is over.
    exit_code = 77

    def __init__(self, sweep: str | Path, number: int, *, offset: int) -> None:
        self.spec = read_spec(Path(sweep))
        self.study = load(Path(sweep), self.spec)
        self.study.sampler = RandomSampler()  # nothing is drawn here
        self.offset = offset
        frozen = next(each for each in self.study.get_trials(deepcopy=False) if each.number == number)
        self.trial: Trial = optuna.trial.Trial(self.study, frozen._trial_id)

    def report(self, step: int, value: float) -> str | None:
        """Note a value of the monitor. Returns why the training must end now, or None. A step that was reported before a kill
        keeps its value."""
        at = self.offset + step
        known = self.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
        if at not in known:
            self.trial.report(value, at)
        if not math.isfinite(value):
            return self.end(f"diverged: {self.spec.monitor} is {value} at step {step}")
        if self.trial.should_prune():
            return self.end(f"pruned: at step {step}, {self.spec.monitor} {value:.4g} is worse than the median")
        return None

    def end(self, reason: str) -> str:
        """Note why the training ends early."""
        self.trial.set_user_attr(ENDED, reason)
        return reason
