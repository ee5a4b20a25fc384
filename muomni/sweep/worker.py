"""A process that trains one trial of a sweep after the other, until all have ended.

python -m muomni.sweep.worker FOLDER          what workers=2 starts two of, and SLURM
"""

import logging
import sys
from collections import Counter
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from muomni.cli.key_value import run_program
from muomni.run import signals
from muomni.sweep.study import Spec, load, read_spec
from muomni.sweep.training import Ending, Start, start_process, train
from muomni.sweep.trials import next_trial

OUTCOME, REASON = "outcome", "reason"


def work(sweep: Path, *, start: Start = start_process) -> bool:
    """Train trials until none is left. Returns False if a training was interrupted: the sweep can be continued."""
    spec = read_spec(sweep)
    study = load(sweep, spec)
    while (claimed := next_trial(study, spec, sweep)) is not None:
        with claimed.lock:
            number, values = claimed.trial.number, claimed.values
            shown = " ".join(f"{key}={_short(value)}" for key, value in values.items())
            say(f"trial {number} {'is continued' if claimed.again else 'begins'}: {shown}")
            ending = train(claimed, spec, sweep, start=start)
            if ending.state is None:
                say(f"trial {number}: {ending.reason}")
                return False
            tell(claimed.trial, ending)
            say(f"trial {number} {described(ending, spec)}; {progress(study, spec)}")
    return True


def tell(trial: Trial, ending: Ending) -> None:
    """End a trial in the storage; the outcome first, so that no ended trial lacks it."""
    trial.set_user_attr(OUTCOME, ending.outcome)
    trial.set_user_attr(REASON, ending.reason)
    trial.study.tell(trial, ending.value, state=ending.state)


def described(ending: Ending, spec: Spec) -> str:
    """An ending in words."""
    if ending.value is None:
        return f"{ending.outcome}: {ending.reason}"
    return f"is complete: {spec.monitor} {ending.value:.4g}"


def outcome(frozen: FrozenTrial) -> str:
    """complete, pruned, diverged, failed, or the state of a trial that has not ended."""
    state = frozen.state.name.lower()
    return frozen.user_attrs.get(OUTCOME, state) if frozen.state.is_finished() else state


def progress(study: Study, spec: Spec) -> str:
    """How many trials ended how, and the best."""
    trials = study.get_trials(deepcopy=False)
    counts = Counter(map(outcome, trials))
    ended = f"{sum(each.state.is_finished() for each in trials)} of {spec.trials} ended"
    complete = [each for each in trials if each.state == TrialState.COMPLETE]
    best = f", best is trial {study.best_trial.number}: {study.best_value:.4g}" if complete else ""
    return f"{ended} ({', '.join(f'{count} {name}' for name, count in counts.most_common())}){best}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def say(line: str) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Work on the sweep in a folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if len(arguments) != 1:
        raise ValueError("one folder of a sweep is needed")
    signals.listen()
    return 0 if work(Path(arguments[0])) else 130


if __name__ == "__main__":
    run_program(main)
