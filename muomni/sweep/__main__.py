"""python -m muomni.sweep stage=thinker search=thinker trials=40 workers=2     searches the options of a training by Optuna.

search=NAME|FILE.yaml   the search space, of conf/search; default: that of the stage. Or on the command line, as in Hydra:
                        'optim.lr=tag(log, interval(1e-3, 1e-1))' datamodule.batch_size=16,32,64
trials=20               in all: the same command continues a sweep that was stopped or killed, a larger number extends it
workers=1               processes that train at the same time
seeds=0,1,2             trains each set of values once a seed, and judges it by the mean; without a search: one training a seed
name=NAME               of the folder, runs/sweeps/NAME, and of the W&B group; default: the stage's and the search's
storage=journal|sqlite  pruner=median|none   search_seed=0
validations=10          of a training, where trainer.val_check_interval is not given: what the pruner compares
launcher=local          or submitit_slurm with slurm.partition=gpu slurm.timeout_min=240 slurm.gpus_per_node=1 (docs/sweeps.md)

All other words are those of train.py, the same in every trial. A trial is judged by monitor=. Values: docs/sweeps.md.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muomni.cli.composition import compose_words
from muomni.cli.help import CONF, choices
from muomni.cli.key_value import run_program, split_options
from muomni.program import ROOT

DEFAULTS: dict[str, Any] = {
    "search": "", "trials": 20, "workers": 1, "seeds": (), "name": "", "storage": "journal", "pruner": "median",
    "search_seed": 0, "validations": 10, "launcher": "local",
}  # fmt: skip
#: Options of loggers that name a run or its group.
RUN_NAMES = ("group", "name", "run_name")
#: Options of train.py that belong to a sweep itself.
OWN = ("hydra.run.dir", "hydra.sweep.dir", "paths.output", "resume", "prerequisites", "task", "when_done")


def main(arguments: list[str]) -> int:
    """Begin or continue a sweep; the summary is on standard error."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ValueError("a sweep needs Optuna: pip install 'muomni[sweep]'") from None
    from muomni.run import signals
    from muomni.sweep.launch import launch
    from muomni.sweep.study import begin, read_spec
    from muomni.sweep.worker import progress, say

    options, words, slurm = read_command(arguments)
    spec, cfg, words = plan(options, words)
    sweep = (Path(cfg.paths.runs) / "sweeps" / spec.name).resolve()
    begin(sweep, spec)
    signals.listen()
    train_first(cfg, words)
    code = launch(sweep, launcher=options["launcher"], workers=options["workers"], options=slurm)
    study = begin(sweep, read_spec(sweep))
    say(f"{sweep}: {progress(study, spec)}")
    say(f"its trials in one page: python -m muomni.report sweep {sweep}")
    return code


def read_command(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """Our options, words of `train.py`, options of SLURM. Raises ValueError for a value that makes no sense."""
    from muomni.sweep.launch import LAUNCHERS
    from muomni.sweep.storage import FILES
    from muomni.sweep.study import PRUNERS

    arguments = [f"search={word.removeprefix('search/')}" if word.startswith("search/") else word for word in arguments]
    options, rest = split_options(arguments, DEFAULTS)
    for key, known in (("storage", tuple(FILES)), ("pruner", PRUNERS), ("launcher", LAUNCHERS)):
        if options[key] not in known:
            raise ValueError(f"{key}={options[key]}: available are {', '.join(known)}")
    for key in ("trials", "workers", "validations"):
        if options[key] < 1:
            raise ValueError(f"{key}={options[key]}: at least 1")
    if not all(seed.isdigit() for seed in options["seeds"]) or len(set(options["seeds"])) < len(options["seeds"]):
        raise ValueError(f"seeds={','.join(options['seeds'])}: whole numbers, each once")
    if re.fullmatch(r"(\w[\w.-]*)?", options["name"], re.ASCII) is None:
        raise ValueError(f"name={options['name']}: it is the name of a folder: letters, digits and . _ -")
    given = [word.removeprefix("slurm.").partition("=") for word in rest if word.startswith("slurm.")]
    slurm = {key: value for key, _, value in given}
    if slurm and options["launcher"] == "local":
        raise ValueError(f"slurm.{next(iter(slurm))}=: launcher=submitit_slurm uses it")
    return options, [word for word in rest if not word.startswith("slurm.")], slurm


def plan(options: dict[str, Any], words: list[str]) -> tuple[Any, Any, list[str]]:
    """The study that a command means, the configuration of its trainings, and the words that they share. Raises ValueError or
    FileNotFoundError for what cannot be trained."""
    from muomni.run.monitors import settle
    from muomni.sweep.space import as_words, first_values, space_of, split_searched
    from muomni.sweep.study import Spec

    searched, words = split_searched(words)
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key in OWN or key.startswith("paths.exports.") or word in ("-m", "--multirun"):
            raise ValueError(f"{word}: a sweep decides this itself; leave it out")
    seeds = [int(seed) for seed in options["seeds"]]
    cfg = compose_words(words)
    stage = cfg.stage.name
    texts = searched_options(options["search"], stage, searched, seeds)
    if seeds and ("seed" in texts or any(word.startswith("seed=") for word in words)):
        raise ValueError(f"seeds={','.join(options['seeds'])} and seed=: give one of them")
    compose_words([*words, *as_words(first_values(space_of(texts)))])  # options that there are
    settle(cfg)
    steps = None if cfg.trainer.max_steps == -1 else int(cfg.trainer.max_steps)
    shared = [*words, *validate_every(words, steps, options["validations"])]
    search = Path(options["search"]).stem if options["search"] else (stage if not searched else "own")
    name = options["name"] or (f"{stage}-{search}" if texts else f"{stage}-seeds")
    shared += named_runs(cfg.get("logger") or {}, stage, name)
    spec = Spec(
        name=name, stage=stage, words=shared, space=texts, seeds=seeds, monitor=cfg.monitor, mode=cfg.monitor_mode,
        keep=cfg.export, steps=steps, trials=options["trials"] if texts else len(seeds), storage=options["storage"],
        pruner=options["pruner"], search_seed=options["search_seed"],
    )  # fmt: skip
    return spec, cfg, words


def named_runs(loggers: Any, stage: str, name: str) -> list[str]:
    """Words by which the loggers keep a sweep apart: its name as group and, with the trial's number, as name of each run."""
    unset = [
        (kind, key) for kind, options in loggers.items() for key in RUN_NAMES if options and options.get(key) == stage
    ]
    return [f"logger.{kind}.{key}={name}" for kind, key in unset]


def searched_options(search: str, stage: str, searched: dict[str, str], seeds: Sequence[int]) -> dict[str, str]:
    """Option -> text of the whole search space: of `search=`, and of the command line. Empty: seeds alone."""
    from muomni.sweep.space import read_search

    if search:
        return read_search(search) | searched
    if searched or seeds:
        return searched
    if stage in choices("search"):
        return read_search(stage)
    raise ValueError(
        f"stage={stage} has no search space: give search=FILE.yaml, or options with several values (optim.lr=1e-3,3e-3)"
    )


def validate_every(words: Sequence[str], steps: int | None, validations: int) -> list[str]:
    """The interval of validations, unless it is given: so that the last one is at the last step, where that is possible."""
    if steps is None or any(word.lstrip("+").startswith("trainer.val_check_interval=") for word in words):
        return []
    most = -(-steps // validations)
    exact = next((interval for interval in range(most, most // 2, -1) if steps % interval == 0), most)
    return [f"trainer.val_check_interval={exact}"]


def train_first(cfg: Any, words: Sequence[str]) -> None:
    """Train what the stage needs and checkpoints/ lacks, once for all trials. Raises RuntimeError if that fails."""
    from muomni.run.conditioning import settle_conditioning, tells_states
    from muomni.run.stage_graph import Wanted, missing, read_needs, shared_overrides
    from muomni.sweep.worker import say

    settle_conditioning(cfg)
    exports = {stage: Path(folder) for stage, folder in cfg.paths.exports.items()}
    for stage in missing(
        cfg.stage.needs, read_needs(CONF, tells_states=tells_states(cfg)), Wanted(exports, cfg.size, cfg.budget.level)
    ):
        command = [sys.executable, str(ROOT / "train.py"), f"stage={stage}", "when_done=skip", *shared_overrides(words)]
        say(f"training stage={stage} first")
        if code := subprocess.run(command, check=False).returncode:
            raise ValueError(f"stage={stage}, which is needed first, ended with exit code {code}")


if __name__ == "__main__":
    run_program(main)
