"""Trackio (Hugging Face's local dashboard): one Trackio run for each run folder; `trackio show` opens the page."""

import importlib.util
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class TrackioLogger(Logger):
    """A resumed run continues the one of its run folder's name.

    Args:
        project: in Trackio. save_dir: the run folder. folder: where Trackio keeps its files; TRACKIO_DIR goes first.
        name: of the run; None: stage and time, as the run folder has them. group: of the run.
    """

    def __init__(
        self, *, project: str, save_dir: str, folder: str, name: str | None = None, group: str | None = None
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("trackio") is None:
            raise ModuleNotFoundError("No module named 'trackio'")
        path = Path(save_dir)
        self._project, self._save_dir, self._group = project, save_dir, group
        self._name = name or "-".join(path.parts[-2:])
        self._config: dict[str, Any] = {}
        self._run: Any = None
        os.environ.setdefault("TRACKIO_DIR", str(Path(folder).resolve()))  # read when trackio is imported

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The Trackio run, begun when it is first needed."""
        if self._run is None:
            import trackio

            self._run = trackio.init(
                self._project, name=self._name, group=self._group, config=self._config, resume="allow", embed=False,
                auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip
        return self._run

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return self._save_dir

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Before the run begins."""
        self._config |= params if isinstance(params, dict) else vars(params)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """The run stays open: tests are logged after the training. `close_loggers` ends it."""
