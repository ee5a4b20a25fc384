"""Weights & Biases, offline without a login; one W&B run for each run folder."""

import logging
import netrc
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import WandbLogger

from callbacks.run_note import read_note, write_note

log = logging.getLogger(__name__)


def logged_in() -> bool:
    """Whether W&B has an API key: in the environment or in the netrc file, where `wandb login` puts it.

    wandb.login(prompt=False) would tell too, but leaves the process online for good.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    file = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    return file.is_file() and netrc.netrc(str(file)).authenticators(host) is not None


def wandb_logger(**options: Any) -> WandbLogger:
    """Lightning's WandbLogger; without a login (and without WANDB_MODE) the run is offline, with a message."""
    offline = os.environ.get("WANDB_MODE") == "offline"
    if "WANDB_MODE" not in os.environ and not logged_in():
        log.info("W&B: nobody is logged in, the run stays in %s/wandb; `wandb sync` sends it", options.get("save_dir"))
        offline = True
    if options.get("id") is None:
        options["id"] = run_id(Path(options["save_dir"]))
    return WandbLogger(offline=offline, **options)


def run_id(folder: Path) -> str:
    """Id of the W&B run of a run folder, created once, so that a resumed run continues it."""
    note = folder / "wandb-run.txt"
    known = read_note(note)
    if known is not None:
        return known
    fresh = secrets.token_hex(4)
    write_note(note, fresh)
    return fresh
