"""`dry_run=true`: what a command would train, what that takes, and nothing of it stays.

Everything a training writes goes to a temporary folder: run folder, export, new caches of the data, next to links to those
that are there, and the world where there is none of its preset. Stages that are needed first and lacking are run the same
way, each in its process, into the same folder; what they export after the few steps is what the next one is built of.
"""

import contextlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from muomni.run.conditioning import tells_states
from muomni.run.stage_graph import Wanted, missing, read_needs
from muomni.run.time_spans import duration

log = logging.getLogger(__name__)

#: The temporary folder, for the processes that the first one starts.
FOLDER = "MUOMNI_DRY_RUN"
#: Callbacks that a dry run keeps: what guards and what measures, nothing that writes.
KEPT = ("estimate", "finite_guard", "gradient_guard", "throughput", "progress", "interrupts", "data_position")
#: Options of a datamodule that name a folder of what was computed of the data.
CACHES = ("cache", "tokenizer_root")
#: Of the process that made it: the temporary folder, and the folders that Hydra's run folder is in.
_own: dict[str, Path] = {}


def redirect(cfg: DictConfig, overrides: list[str], *, conf: Path) -> list[str]:
    """Change a training's configuration in place, so that it writes to the temporary folder alone. Returns the overrides of
    the stages that are needed first. Raises ValueError for a task that trains nothing."""
    if cfg.task != "fit":
        raise ValueError(f"dry_run=true task={cfg.task}: only a training can be estimated")
    first = FOLDER not in os.environ
    if first:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="muomni-dry-run-")
        _own.update({"folder": Path(os.environ[FOLDER]), "runs": Path(cfg.paths.runs), "root": Path(cfg.paths.root)})
    folder = Path(os.environ[FOLDER])
    given: list[str] = []
    if first:
        exports = {stage: Path(path) for stage, path in cfg.paths.exports.items()}
        lacking = missing(
            cfg.stage.needs,
            read_needs(conf, tells_states=tells_states(cfg)),
            Wanted(exports, cfg.size, cfg.budget.level),
        )
        for stage in (*lacking, cfg.stage.name):
            cfg.paths.exports[stage] = str(folder / "exports" / stage)
            given.append(f"paths.exports.{stage}={cfg.paths.exports[stage]}")
        world = cfg.data.get("preset") if cfg.data.kind == "world" else None
        if world is not None and not any((Path(cfg.data.root) / "world").glob(f"{world}-*")):
            cfg.data.root = str(folder)
            given.append(f"data.root={folder}")
    for key in CACHES:
        if cfg.datamodule.get(key):
            real = Path(cfg.datamodule[key])
            cfg.datamodule[key] = str(overlay(real, folder / real.name))
    cfg.paths.output = str(folder / "runs" / cfg.stage.name)
    cfg.resume, cfg.when_done, cfg.prerequisites = "never", "train", "train"
    cfg.trainer.limit_val_batches = 0
    OmegaConf.set_struct(cfg, False)
    cfg.logger, cfg.callbacks = {}, {name: each for name, each in cfg.callbacks.items() if name in KEPT}
    return [*overrides, *given]


def clean_up() -> None:
    """At the end of the process that made the temporary folder: remove it, and what Hydra made for the run folder, if empty."""
    if _own:
        shutil.rmtree(_own["folder"], ignore_errors=True)
        for name in ("runs", "root"):
            with contextlib.suppress(OSError):  # what holds anything stays
                _own[name].rmdir()


def overlay(cache: Path, folder: Path) -> Path:
    """A folder that has what a cache has, by links, and takes what is new."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in cache.iterdir() if cache.is_dir() else ():
        with contextlib.suppress(FileExistsError):  # another stage has made it
            (folder / entry.name).symlink_to(entry.resolve())
    return folder


def note(stage: str, seconds: float) -> None:
    """Keep a stage's estimate for `log_total`."""
    if FOLDER in os.environ:
        (Path(os.environ[FOLDER]) / f"{stage}.json").write_text(json.dumps(seconds))


def log_total(stage: str) -> None:
    """Of a stage with those that it trains first: the sum, where there is more than one."""
    notes = sorted(Path(os.environ[FOLDER]).glob("*.json"), key=lambda path: path.stat().st_mtime)
    each = {path.stem: float(json.loads(path.read_text())) for path in notes}
    if len(each) > 1 and list(each)[-1] == stage:
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in each.items())
        log.info("in all about %s: %s (one after the other; nothing was kept)", duration(sum(each.values())), parts)
