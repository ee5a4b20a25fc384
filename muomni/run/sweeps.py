"""A sweep (`train.py -m`): every job writes its export to its run folder, the best one also to the stage's export folder.

    runs/<stage>/<time>/best.json            for each export folder: the best job so far, and all scores
    runs/<stage>/<time>/<job>/export         export of a job
    runs/<stage>/<time>/<job>/failed.json    why a job ended without metrics; the others go on

Jobs may run in parallel, in separate processes and on several machines; they share only best.json, under a lock.
"""

import fcntl
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback

from muomni.checkpoints.atomic_write import write_text
from muomni.run.monitors import mode_of

log = logging.getLogger(__name__)

BEST = "best.json"
FAILED = "failed.json"


def apart(cfg: Any, sweep: Path | None, *, job: str) -> None:
    """Give the runs of a sweep's jobs in W&B and the like a group and names of their own, where the user gave none."""
    stage, loggers = cfg.stage.name, cfg.get("logger") or {}
    if sweep is None:
        return
    names = {"group": f"{stage}-{sweep.name}", **dict.fromkeys(("name", "run_name"), f"{stage}-{sweep.name}-{job}")}
    for options in loggers.values():
        for key, own in names.items():
            if options and options.get(key) == stage:
                options[key] = own


def mark_failed(folder: Path, error: Exception, mistake: str | None) -> None:
    """Note in a job's folder why it failed, and log it; what is no user's mistake (`mistake` is None) with its traceback."""
    text = " ".join((mistake or f"{type(error).__name__}: {error}").split())
    log.error("job %s of the sweep failed: %s", folder.name, text, exc_info=error if mistake is None else None)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FAILED, json.dumps({"error": text}, indent=2) + "\n")


def score(metrics: Mapping[str, float], monitor: str, losses: Mapping[str, Any]) -> tuple[str, float] | None:
    """Name and value of a job's score: the stage's monitor, the same metric of another test split, or the
    held-out loss (`losses`); None if nothing was measured."""
    alike = sorted(name for name in metrics if name.rpartition("/")[2] == monitor.rpartition("/")[2])
    loss = f"{monitor.partition('/')[0]}/val/loss"
    for name, values in ((monitor, metrics), *((each, metrics) for each in alike), (loss, losses)):
        if name in values and math.isfinite(values[name]):
            return name, float(values[name])
    return None


def is_better(name: str, value: float, than: float) -> bool:
    """Whether a value of the metric is better than another."""
    return value > than if mode_of(name) == "max" else value < than


def _beats(scored: tuple[str, float], best: Sequence[Any]) -> bool:
    """Whether a job is better than the best so far. A held-out loss cannot be compared with a metric: a job with a
    measured metric wins."""
    by_loss = [name.endswith("/val/loss") for name in (scored[0], best[0])]
    return by_loss[1] if by_loss[0] != by_loss[1] else is_better(*scored, than=best[1])


def keep_best(sweep: Path, job: str, target: Path, scored: tuple[str, float] | None, write: Callable[[], Any]) -> None:
    """Record the score of a job, and call `write` (its export, to `target`) if it is the best of the sweep so far."""
    with (sweep / ".best.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        file = sweep / BEST
        known = json.loads(file.read_text()) if file.is_file() else {}
        kept = known.setdefault(str(target), {"best": None, "scores": {}})
        best = kept["scores"].get(kept["best"])
        kept["scores"][job] = None if scored is None else list(scored)
        if best is None or (scored is not None and _beats(scored, best)):
            kept["best"] = job
            write()
        write_text(file, json.dumps(known, indent=2) + "\n")


class Report(Callback):
    """Print the best job at the end of a sweep, and which failed (conf/train.yaml: hydra.callbacks)."""

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        """Called by Hydra in the process that started the sweep, which ends with exit code 1 if a job failed."""
        sweep = Path(config.hydra.sweep.dir)
        failed = failures(sweep)
        for line in [*summary(sweep), *failed]:
            print(line, file=sys.stderr)
        if failed:
            sys.exit(1)


def failures(sweep: Path) -> list[str]:
    """One line for each job that failed."""
    words = _own_words(sweep)
    return [
        f"job {file.parent.name} ({words.get(file.parent.name) or 'as the others'}) failed: "
        f"{json.loads(file.read_text())['error']}"
        for file in sorted(sweep.glob(f"*/{FAILED}"), key=lambda file: _order(file.parent.name))
    ]


def _order(job: str) -> tuple[int, str]:
    return (int(job) if job.isdigit() else -1, job)


def summary(sweep: Path) -> list[str]:
    """One line for each export folder that the jobs write to."""
    file = sweep / BEST
    if not file.is_file():
        return []
    words = _own_words(sweep)
    lines = []
    for target, kept in json.loads(file.read_text()).items():
        best, said = kept["best"], {}
        for job in sorted(kept["scores"], key=_order):
            scored = kept["scores"][job]
            value = "not measured" if scored is None else f"{scored[0]} {scored[1]:.4g}"
            said[job] = f"job {job} ({words.get(job) or 'as the others'}): {value}"
        if len(said) > 1:
            others = "; ".join(text for job, text in said.items() if job != best)
            lines.append(
                f"best of {len(said)} is {said[best]}; {target} is its export, {sweep}/JOB/export is each one's; {others}"
            )
    return lines


def _own_words(sweep: Path) -> dict[str, str]:
    """Job -> the overrides that it does not share with all others."""
    all_words = {
        file.parent.parent.name: list(yaml.safe_load(file.read_text()) or [])
        for file in sorted(sweep.glob("*/.hydra/overrides.yaml"))
    }
    common = set.intersection(*(set(words) for words in all_words.values())) if all_words else set()
    return {job: " ".join(word for word in words if word not in common) for job, words in all_words.items()}
