"""Which trial a process works on. A trial that a killed process left is continued, not drawn again: none is lost or doubled.

    <sweep>/trials/<number>/          the run folder of a trial (with seeds: seed-0, seed-1, .. inside)
    <sweep>/trials/<number>/.claim    locked by the process that works on it, and by its training

In the storage such a trial is RUNNING, and nobody holds its lock. All processes choose one after the other, under the lock of the
sweep's folder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from optuna.study import Study
from optuna.trial import Trial, TrialState

from muomni.sweep.space import suggest
from muomni.sweep.storage import claim, exclusive
from muomni.sweep.study import Spec, sampler


@dataclass(frozen=True)
class Claimed:
    """A trial that this process works on. again: another process began it."""

    trial: Trial
    values: dict[str, Any]
    folder: Path
    lock: IO[bytes]
    again: bool


def trial_folder(sweep: Path, number: int) -> Path:
    """The folder of a trial."""
    return sweep / "trials" / str(number)


def next_trial(study: Study, spec: Spec, sweep: Path) -> Claimed | None:
    """A trial that was left, else a new one while there are fewer than `spec.trials`; None if nothing is left to do."""
    with exclusive(sweep / ".trials.lock"):
        for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = _lock(sweep, frozen.number)
            if lock is not None:
                study.sampler = sampler(spec, frozen.number)
                return _claimed(Trial(study, frozen._trial_id), spec, sweep, lock, again=True)
        trials = study.get_trials(deepcopy=False)
        waiting = [each for each in trials if each.state == TrialState.WAITING]
        number = waiting[0].number if waiting else len(trials)
        if not waiting and number >= spec.trials:
            return None
        if not waiting and not spec.space:  # each seed once, in order
            study.enqueue_trial({"seed": spec.seeds[number]})
        study.sampler = sampler(spec, number)
        trial = study.ask()
        lock = _lock(sweep, trial.number)
        if lock is None:
            raise RuntimeError(f"{trial_folder(sweep, trial.number)}: another process has the lock of a new trial")
        return _claimed(trial, spec, sweep, lock, again=False)


def _lock(sweep: Path, number: int) -> IO[bytes] | None:
    folder = trial_folder(sweep, number)
    folder.mkdir(parents=True, exist_ok=True)
    return claim(folder / ".claim")


def _claimed(trial: Trial, spec: Spec, sweep: Path, lock: IO[bytes], *, again: bool) -> Claimed:
    values = suggest(trial, spec.distributions)
    return Claimed(trial, values, trial_folder(sweep, trial.number), lock, again)
