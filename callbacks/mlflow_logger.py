"""MLflow: one MLflow run for each run folder, in a folder of files unless a server is named.

MLflow 3 keeps files only where MLFLOW_ALLOW_FILE_STORE says so; its other local store needs the whole of `mlflow`, a database and
a dozen packages, where `mlflow-skinny` is enough for files and servers.
"""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.run_note import read_note, write_note

NOTE = "mlflow-run.txt"


def mlflow_logger(*, save_dir: str, folder: str, tracking_uri: str | None, **options: Any) -> MLFlowLogger:
    """Lightning's MLFlowLogger of the run folder `save_dir`. tracking_uri: of a server or database; None: MLFLOW_TRACKING_URI, or
    files in `folder`. A resumed run continues its MLflow run."""
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri is None:
        tracking_uri = Path(folder).resolve().as_uri()
    if tracking_uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    note = Path(save_dir) / NOTE
    logger = MLFlowLogger(tracking_uri=tracking_uri, run_id=read_note(note), **options)
    if getattr(rank_zero_only, "rank", 0) == 0 and not note.is_file():
        write_note(note, str(logger.run_id))
    return logger
