"""Weights & Biases, offline where nobody is logged in."""

import logging
import os
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)


def logged_in() -> bool:
    """Whether W&B finds an API key, without asking for one."""
    try:
        return bool(wandb.login(prompt=False))
    except wandb.errors.UsageError:
        return False


def wandb_logger(**options: Any) -> WandbLogger:
    """Lightning's WandbLogger; without a login (and without WANDB_MODE) the run is kept offline, and that is said."""
    offline = os.environ.get("WANDB_MODE") == "offline"
    if "WANDB_MODE" not in os.environ and not logged_in():
        log.info("W&B: nobody is logged in, the run stays in %s/wandb; `wandb sync` sends it", options.get("save_dir"))
        offline = True
    return WandbLogger(offline=offline, **options)
