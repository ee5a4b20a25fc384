"""The loggers of a run: built from `logger=[...]`, with one line for what is not installed or cannot be written.

Each gets the resolved configuration when it is built; where the run was made, and the export, follow through `log_files`, which
knows what each of them offers: W&B and Trackio artifacts, MLflow artifacts. `metrics.csv` and TensorBoard have them as files of
the run folder.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.metrics_file import MetricsFile
from callbacks.trackio_logger import TrackioLogger

log = logging.getLogger(__name__)

#: Logger -> what installs it.
EXTRAS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "trackio": "trackio", "wandb": "wandb"}


def make_loggers(
    options: Mapping[str, Any] | None, config: Mapping[str, Any], *, output: Path, build: Callable[[Any], Logger]
) -> list[Logger]:
    """The loggers by name, and metrics.csv, named or not. config: what they are told of the run. build: options -> logger.

    Raises ValueError in one line for one that is not installed, and for a folder that cannot be written.
    """
    loggers: dict[str, Logger] = {}
    for name, each in (options or {}).items():
        check_writable(name, each)
    for name, each in (options or {}).items():
        loggers[name] = _make(name, each, build)
    if "csv" not in loggers:
        loggers["csv"] = MetricsFile(str(output))
    for logger in loggers.values():
        logger.log_hyperparams(dict(config))
    return list(loggers.values())


def check_writable(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError where the logger's folder cannot be made or written, before anything is trained."""
    folder = options.get("save_dir")
    if folder is None:
        return
    probe = Path(folder) / f".{name}.probe"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"logger={name}: {folder} cannot be written ({error.strerror}): give logger.{name}.save_dir=FOLDER, or another "
            "paths.root"
        ) from None


def _make(name: str, options: Mapping[str, Any], build: Callable[[Any], Logger]) -> Logger:
    try:
        return build(options)
    except Exception as error:  # the constructor's, or what Hydra wraps it in
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ImportError):
            cause = cause.__cause__
        if cause is None:
            raise
        extra = EXTRAS.get(name, name)
        raise ValueError(
            f"logger={name}: {extra} is not installed ({cause}): pip install 'muomni[{extra}]', or leave it out of logger="
        ) from None


def _to_wandb(logger: Any, folder: Path, name: str, category: str) -> None:
    import wandb

    artifact = wandb.Artifact(name, type=category)
    artifact.add_dir(str(folder))
    logger.experiment.log_artifact(artifact)


def _to_mlflow(logger: Any, folder: Path, name: str, category: str) -> None:
    logger.experiment.log_artifacts(logger.run_id, str(folder), category)


def _to_trackio(logger: Any, folder: Path, name: str, category: str) -> None:
    logger.experiment.log_artifact(str(folder), name=name, type=category)


#: Logger type -> function that keeps a folder with the run.
KEEP: dict[type, Callable[[Any, Path, str, str], None]] = {
    WandbLogger: _to_wandb,
    MLFlowLogger: _to_mlflow,
    TrackioLogger: _to_trackio,
}


@rank_zero_only
def log_files(loggers: list[Logger], folder: Path, *, name: str, category: str) -> None:
    """Keep a folder's files with the run wherever a logger can: an export (`model`), or where the run was made (`source`)."""
    for logger in loggers:
        for kind, keep in KEEP.items():
            if isinstance(logger, kind):
                keep(logger, folder, name, category)


def close_loggers(*, failed: bool) -> None:
    """End the W&B and the Trackio run of this job, failed or not, so that the next job of a multirun gets its own."""
    wandb, trackio = sys.modules.get("wandb"), sys.modules.get("trackio")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))
    if trackio is not None and trackio.context_vars.current_run.get() is not None:
        trackio.finish()
