"""Rules across the options of a training command: what contradicts itself, would have no effect, or would never end."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from muomni.checkpoints import is_export

log = logging.getLogger(__name__)

TASKS = ("fit", "validate", "test", "replay")
WHEN_DONE = ("train", "skip")
PREREQUISITES = ("train", "error")


def validate(cfg: Any) -> None:
    """Raise ValueError or FileNotFoundError naming the first option of a composed configuration that is wrong."""
    for key, known in (("task", TASKS), ("when_done", WHEN_DONE), ("prerequisites", PREREQUISITES)):
        if cfg[key] not in known:
            raise ValueError(f"{key}={cfg[key]}: available are {', '.join(known)}")
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
    if cfg.compile and not cfg.module.get("compile_model"):
        raise ValueError(f"compile=true: stage={cfg.stage.name} is not compiled; leave it out")
    if cfg.activation_checkpointing and not cfg.module.get("activation_checkpointing"):
        raise ValueError(
            f"activation_checkpointing=true: stage={cfg.stage.name} has nothing to checkpoint; leave it out"
        )
    _check_schedule(cfg.get("schedule") or {})


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
    if clip is not None and clip <= 0:
        raise ValueError(f"trainer.gradient_clip_val={clip}: above 0, or null for no clipping")


def _whole(trainer: Any, key: str, meaning: str, fits: Callable[[int], bool]) -> None:
    value = trainer[key]
    if isinstance(value, bool) or not isinstance(value, int) or not fits(value):
        raise ValueError(f"trainer.{key}={value}: a whole number, {meaning}")


def _check_schedule(schedule: Mapping[str, Any]) -> None:
    for key in ("decay_fraction", "final"):
        value = schedule.get(key)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"schedule.{key}={value}: a share, from 0 to 1")
    if (schedule.get("warmup_steps") or 0) < 0:
        raise ValueError(f"schedule.warmup_steps={schedule['warmup_steps']}: at least 0")


def count_steps(trainer: Any, datamodule: Any, *, warmup: int, processes: int) -> int:
    """Optimizer steps of a training: `trainer.max_steps`, or fewer where `trainer.max_epochs` ends it before. The schedule of
    the learning rate and all that depends on a share of the steps go by it. A warm-up that is never over is warned of."""
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
