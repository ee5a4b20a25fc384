"""Rules across the options of a training command: contradictions, options without effect, training without end."""

import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from muomni.checkpoints.export import is_export

log = logging.getLogger(__name__)

TASKS = ("fit", "validate", "test", "replay")
WHEN_DONE = ("train", "skip")
PREREQUISITES = ("train", "error")
#: Range of numeric options, checked if a configuration has them.
NUMBERS = {
    "optim.lr": (0, math.inf), "optim.adam_ratio": (0, math.inf), "optim.momentum": (0, 1),
    "module.training.weight_decay": (0, math.inf),
    "schedule.decay_fraction": (0, 1), "schedule.final": (0, 1),
}  # fmt: skip
#: Minimum of integer options.
COUNTS = {
    "seed": 0, "schedule.warmup_steps": 0, "datamodule.seed": 0, "datamodule.batch_size": 1, "datamodule.eval_batch_size": 1,
    "datamodule.num_workers": 0, "datamodule.pack": 1, "datamodule.length": 1, "datamodule.batch_tokens": 1,
}  # fmt: skip


def validate(cfg: Any) -> None:
    """Raises ValueError or FileNotFoundError naming the first invalid option of a composed configuration."""
    for key, known in (("task", TASKS), ("when_done", WHEN_DONE), ("prerequisites", PREREQUISITES)):
        if cfg[key] not in known:
            raise ValueError(f"{key}={cfg[key]}: available are {', '.join(known)}")
    if cfg.tag is None or re.fullmatch(r"[\w.+-]*", cfg.tag, re.ASCII) is None:
        raise ValueError(f"tag={cfg.tag}: it becomes part of names of folders: letters, digits and . _ + -")
    _check_trainer(cfg.trainer)
    if (cfg.task == "replay") != (cfg.spike is not None):
        raise ValueError("task=replay and spike=FILE go together")
    if cfg.ckpt is not None:
        if cfg.task == "fit":
            raise ValueError(f"ckpt={cfg.ckpt} names an export to measure: give task=test, validate or replay; to go on "
                             "with a training give resume=FILE.ckpt")  # fmt: skip
        if not is_export(cfg.ckpt):
            raise FileNotFoundError(f"ckpt={cfg.ckpt}: no export folder (model.yaml + model.safetensors) there")
    if cfg.task != "fit" and cfg.resume not in ("auto", "never"):
        raise ValueError(f"resume={cfg.resume} goes on with a training: with task={cfg.task} give ckpt=EXPORT")
    if cfg.compile and not cfg.module.training.compile_model:
        raise ValueError(f"compile=true: stage={cfg.stage.name} is not compiled; leave it out")
    if cfg.activation_checkpointing and not cfg.module.training.get("activation_checkpointing"):
        raise ValueError(
            f"activation_checkpointing=true: stage={cfg.stage.name} has nothing to checkpoint; leave it out"
        )
    for key, (least, most) in NUMBERS.items():
        _check_number(key, _at(cfg, key), least=least, most=most, whole=False)
    for key, least in COUNTS.items():
        _check_number(key, _at(cfg, key), least=least, most=math.inf, whole=True)
    betas = _at(cfg, "optim.betas")
    pair = list(betas) if isinstance(betas, Sequence) else [betas]
    if betas is not None and (len(pair) != 2 or not all(_is_number(beta) and 0 <= beta < 1 for beta in pair)):
        raise ValueError(f"optim.betas={betas}: two numbers, from 0 to below 1")


def _check_trainer(trainer: Any) -> None:
    for key in ("accumulate_grad_batches", "log_every_n_steps"):
        _whole(trainer, key, "at least 1", lambda value: value >= 1)
    _whole(trainer, "max_steps", "at least 1, or -1 for no limit", lambda value: value == -1 or value >= 1)
    epochs = trainer.get("max_epochs")
    if epochs is not None:
        _whole(trainer, "max_epochs", "at least 1, or -1 for no limit", lambda value: value == -1 or value >= 1)
    if trainer.max_steps == -1 and epochs in (None, -1):
        raise ValueError(
            "trainer.max_steps=-1 without trainer.max_epochs=N: training would never end, give one of them"
        )
    if trainer.get("check_val_every_n_epoch") is None and trainer.val_check_interval is not None:
        _whole(trainer, "val_check_interval", "it counts optimizer steps", lambda value: value >= 1)
    clip = trainer.gradient_clip_val
    if clip is not None and not (_is_number(clip) and clip > 0):
        raise ValueError(f"trainer.gradient_clip_val={clip}: above 0, or null for no clipping")


def _whole(trainer: Any, key: str, meaning: str, fits: Callable[[int], bool]) -> None:
    value = trainer[key]
    if isinstance(value, bool) or not isinstance(value, int) or not fits(value):
        raise ValueError(f"trainer.{key}={value}: a whole number, {meaning}")


def _at(cfg: Any, key: str) -> Any:
    """The value of a dotted key, or None."""
    for part in key.split("."):
        cfg = None if cfg is None else cfg.get(part)
    return cfg


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(key: str, value: Any, *, least: float, most: float, whole: bool) -> None:
    if value is None:
        return
    if not _is_number(value) or not least <= value <= most or (whole and not isinstance(value, int)):
        reach = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{key}={value}: a {'whole ' if whole else ''}number, {reach}, is needed")


def count_steps(trainer: Any, datamodule: Any, *, warmup: int, processes: int) -> int:
    """Optimizer steps of a training: `trainer.max_steps`, or fewer if `trainer.max_epochs` ends it before. The learning rate
    schedule and all options that are a share of the steps use it. Warns if the warm-up is longer."""
    steps = int(trainer.max_steps)
    if (trainer.get("max_epochs") or -1) > 0:
        by_epochs = datamodule.steps_in(
            trainer.max_epochs, accumulate=trainer.accumulate_grad_batches, ranks=processes,
            limit=trainer.get("limit_train_batches"), only=trainer.get("overfit_batches") or 0,
        )  # fmt: skip
        steps = by_epochs if steps == -1 else min(steps, by_epochs)
        log.info("trainer.max_epochs=%d: training has %d steps", trainer.max_epochs, steps)
    if warmup > steps:
        log.warning("schedule.warmup_steps=%d of %d steps: the learning rate never reaches optim.lr", warmup, steps)
    return steps
