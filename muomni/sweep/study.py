"""A study: what is searched, kept in study.json of the sweep's folder and compared when the same folder is used again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.study import Study

from muomni.checkpoints.atomic_write import write_text
from muomni.short_repr import shown
from muomni.sweep.space import Space, space_of
from muomni.sweep.storage import FILES, open_storage

FILE = "study.json"
PRUNERS = ("median", "none")
#: Trials that end unpruned before any is compared with them, and the share of a training in which none is pruned.
STARTUP, WARMUP = 5, 0.2
#: What may differ when a study is continued.
FREE = ("trials",)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A study. words: of `train.py`, the same in all trials. space: option -> text. seeds: each set of values is trained once
    for each; empty: by the seed of the words. monitor: a metric of the validation split, better `mode` (min | max).
    keep: last | best of its values is a trial's. steps: of a training, None where epochs end it."""

    name: str
    stage: str
    words: list[str]
    space: dict[str, str]
    seeds: list[int]
    monitor: str
    mode: str
    keep: str
    steps: int | None
    trials: int
    storage: str
    pruner: str
    search_seed: int

    @property
    def distributions(self) -> Space:
        """The search space; of a study without one, which trains each seed once, the seeds."""
        return space_of(self.space or {"seed": f"choice({','.join(map(str, self.seeds))})"})

    @property
    def runs(self) -> list[tuple[str, int | None]]:
        """Of a trial: the folder inside its own ("" itself), and the seed (None: that of the words)."""
        return [(f"seed-{seed}", seed) for seed in self.seeds] if self.seeds and self.space else [("", None)]

    def offset(self, run: int) -> int:
        """What is added to the steps of a trial's run, so that the runs of its seeds follow each other."""
        return run * (self.steps or 10**9)


def read_spec(folder: Path) -> Spec:
    """The study of a sweep's folder. Raises FileNotFoundError if it holds none, ValueError if study.json is damaged."""
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no study ({FILE})")
    try:
        found: Any = json.loads(path.read_text())
        return Spec(**found)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path}: damaged, or of another version: {error}") from error


def begin(folder: Path, spec: Spec) -> Study:
    """Make the study in its folder, or continue the one that is there. Raises ValueError if that is another one."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FILE).is_file():
        check_same(folder, read_spec(folder), spec)
    elif found := next((name for name in FILES.values() if (folder / name).exists()), None):
        raise ValueError(f"{folder / found} is the storage of another study: give another name=, or move it away")
    write_text(folder / FILE, json.dumps(asdict(spec), indent=2) + "\n")
    direction = {"min": "minimize", "max": "maximize"}[spec.mode]
    storage = open_storage(folder, spec.storage)
    names = optuna.get_all_study_names(storage)
    if names not in ([], [spec.name]):
        raise ValueError(
            f"{folder / FILES[spec.storage]} holds a study {', '.join(names)}, not {spec.name}: move it away"
        )
    return optuna.create_study(storage=storage, study_name=spec.name, direction=direction, load_if_exists=True)


def check_same(folder: Path, there: Spec, given: Spec) -> None:
    """Raise ValueError naming the first difference of two studies that decides what a trial is."""
    for field in fields(Spec):
        if field.name not in FREE and (old := getattr(there, field.name)) != (new := getattr(given, field.name)):
            differs = _difference(old, new)
            raise ValueError(
                f"{folder} holds another study: {field.name} is {differs[0]} there, {differs[1]} here; give another name=, or "
                "the same options"
            )


def _difference(old: Any, new: Any) -> tuple[str, str]:
    """What two values do not share, in short."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        old, new = ([f"{key}={value}" for key, value in each.items()] for each in (old, new))
    if isinstance(old, list) and isinstance(new, list):
        own = [[each for each in mine if each not in other] for mine, other in ((old, new), (new, old))]
        old, new = (" ".join(map(str, each)) or "without" for each in own)
    return shown(old, str), shown(new, str)


def load(folder: Path, spec: Spec) -> Study:
    """The study of a folder, for one of its processes."""
    return optuna.load_study(study_name=spec.name, storage=open_storage(folder, spec.storage), pruner=pruner(spec))


def sampler(spec: Spec, number: int) -> TPESampler:
    """The sampler of a trial: its draws are a function of the study's seed, the trial's number and the trials so far."""
    seed = (spec.search_seed * 1_000_003 + number) % 2**32
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def pruner(spec: Spec) -> BasePruner:
    """Prunes a trial whose best value so far is worse than the median of the others' at the same step."""
    if spec.pruner == "none" or not spec.space:
        return NopPruner()
    return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=int(WARMUP * (spec.steps or 0)))
