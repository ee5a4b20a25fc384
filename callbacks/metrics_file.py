"""metrics.csv, which survives kills: never half-rewritten, and continued where a checkpoint left it."""

import csv
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from muomni.checkpoints.atomic_write import atomic_write


class _Writer(ExperimentWriter):
    """Lightning's writer deletes the file that it finds, and rewrites it in place where a column is new."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.rows = 0
        """Rows that are in the file."""

    def _check_log_dir_exists(self) -> None:
        """Keep the existing rows; `cut_back` removes those after the checkpoint."""

    def save(self) -> None:
        count = len(self.metrics)
        super().save()
        self.rows += count

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, newline="") as file:
            self._replace(list(csv.DictReader(file)), fieldnames)

    def cut_back(self, rows: int) -> None:
        """Keep the first `rows` rows of the file: a resumed run logs again what a killed one logged after its checkpoint."""
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(newline="") as file:
            kept = list(csv.DictReader(file))[:rows]
        self.rows = len(kept)
        self.metrics_keys = sorted({key for row in kept for key, value in row.items() if value})
        if kept:
            self._replace(kept, self.metrics_keys)
        else:
            path.unlink()

    def _replace(self, rows: list[dict[str, str]], fieldnames: list[str]) -> None:
        with atomic_write(self.metrics_file_path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=fieldnames, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


class MetricsFile(CSVLogger):
    """Lightning's CSVLogger of one run folder, with the position in its file as part of a checkpoint."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="")
        self._writer: _Writer | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> _Writer:
        """The writer, made when it is first needed."""
        if self._writer is None:
            self._experiment = self._writer = _Writer(self.log_dir)
        return self._writer
