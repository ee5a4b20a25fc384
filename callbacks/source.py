"""Keeps with each training what it was made from: `<run>/source/`.

    source/state.json        commit, branch, untracked files; Python and packages; the fingerprints of the data
    source/uncommitted.diff  differences from that commit, where there are any

The folder goes to W&B, MLflow and Trackio as an artifact. `~callbacks.source` does without, where the changes are nobody else's.
"""

import json
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from callbacks.loggers import log_files
from muomni.checkpoints.atomic_write import write_text
from muomni.run.source_state import environment, git_state, uncommitted


class Source(Callback):
    """Written once a run folder, when training begins, and again when a run is resumed from another state."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On the first process."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / "source"
        data: Any = getattr(getattr(trainer, "datamodule", None), "data", dict)
        state = {"git": git_state(), **environment(), "data": data()}
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "state.json", json.dumps(state, indent=2, default=str) + "\n")
        changes = uncommitted() if state["git"].get("dirty") else ""
        if changes:
            write_text(folder / "uncommitted.diff", changes)
        else:
            (folder / "uncommitted.diff").unlink(missing_ok=True)
        name = f"source-{pl_module.name}-{folder.parent.name}"
        log_files(trainer.loggers, folder, name=name, category="source")
