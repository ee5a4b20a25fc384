"""Trainings of several seeds: of each seed the newest finished run of every stage, all below one root, so that what a stage was
built on is of the same seed.

    ROOT/runs   ROOT/seeds/NAME/runs     where they are looked for; the seed is that of the configuration, not of the name
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from muomni import aliases
from muomni.report.collect import OPTIONAL, STAGES, StageRun, finished, read_run
from muomni.report.run_files import Row
from muomni.report.runs import SEEDS, differences
from muomni.run.identity import KEYS, decisive, identity

#: The folder below a root that holds roots of other seeds, `paths.root=seeds/NAME`.
FOLDER = "seeds"
#: What decides a run's result besides the seed.
SETTING = tuple(key for key in KEYS if key != "seed")
MOST_NAMED = 3  # options in a message


@dataclass(frozen=True)
class Training:
    """The runs of one seed below one root, by stage in the order in which they are trained."""

    seed: str
    root: Path
    runs: Mapping[str, StageRun]

    @property
    def metrics(self) -> dict[str, float]:
        return {name: value for run in self.runs.values() for name, value in run.metrics.items()}

    @property
    def missing(self) -> list[str]:
        """Stages without a finished run of this seed."""
        return [stage for stage in STAGES if stage not in self.runs and stage not in OPTIONAL]

    @property
    def _rank(self) -> tuple[int, float]:
        """The more stages the better, then the newer."""
        return len(self.runs), max((run.folder / "metrics.json").stat().st_mtime for run in self.runs.values())


def roots_of(root: Path) -> list[Path]:
    """A root and the roots of other seeds in it, those that hold runs."""
    return [each for each in (root, *sorted((root / FOLDER).glob("*"))) if (each / "runs").is_dir()]


def find_trainings(roots: Iterable[Path], *, budget: str, data: str) -> dict[str, Training]:
    """Seed -> its training with this budget on this data; of several roots the one with the most stages of the seed, then the
    newest. Raises ValueError naming a damaged file."""
    found: dict[str, Training] = {}
    for root in roots:
        by_seed: dict[str, dict[str, StageRun]] = {}
        for stage in STAGES:
            for folder, config in finished(root / "runs", stage, budget=budget, data=data):
                runs = by_seed.setdefault(str(config.get("seed")), {})
                if stage not in runs:
                    runs[stage] = read_run(folder, stage, config)
        for seed, runs in by_seed.items():
            training = Training(seed, root, runs)
            if seed not in found or training._rank > found[seed]._rank:
                found[seed] = training
    return dict(sorted(found.items(), key=lambda pair: (len(pair[0]), pair[0])))


def same_setting(one: StageRun, other: StageRun) -> bool:
    """Whether two runs of a stage differ by nothing that decides their result but the seed."""
    return identity(one.config, SETTING) == identity(other.config, SETTING)


def check_settings(trainings: Sequence[Training]) -> None:
    """Raise ValueError unless the trainings differ by their seed alone."""
    for stage in STAGES:
        runs = [training.runs[stage] for training in trainings if stage in training.runs]
        for run in runs[1:]:
            if not same_setting(runs[0], run):
                raise ValueError(
                    f"{run.folder}: trained otherwise than {runs[0].folder} ({_difference(runs[0].config, run.config)}): "
                    "seeds are of one setting; train one of them again"
                )


def metrics_of_seeds(newest: StageRun, trainings: Mapping[str, Training]) -> list[dict[str, float]]:
    """The metrics of a run, and those of its stage in the trainings of other seeds of the same setting."""
    runs = [each.runs[newest.stage] for each in trainings.values() if newest.stage in each.runs]
    others = [run for run in runs if run.config.get("seed") != newest.config.get("seed") and same_setting(newest, run)]
    return [newest.metrics, *(run.metrics for run in others)]


def _difference(one: Row, other: Row) -> str:
    """The first options of two configurations that differ, with their values."""
    both = [aliases.flattened(decisive(config, SETTING)) for config in (one, other)]
    found = differences([{key: str(value) for key, value in each.items() if key not in SEEDS} for each in both])
    named = [f"{key}={values[1]} for {values[0]}" for key, values in found.items()]
    return ", ".join(named[:MOST_NAMED]) + (", .." if len(named) > MOST_NAMED else "")
