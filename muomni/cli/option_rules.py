"""Rules across the options of a training command: contradictions, options without effect, training without end."""

import logging
import math
import re
from collections.abc import Sequence
from typing import Any

from muomni.checkpoints.export import is_export

log = logging.getLogger(__name__)

TASKS = ("fit", "validate", "test", "replay")
WHEN_DONE = ("train", "skip")
PREREQUISITES = ("train", "error")
#: Option -> minimum, maximum and whether it is a whole number; checked if a configuration has the option.
NUMBERS: dict[str, tuple[float, float, bool]] = {
    **dict.fromkeys(("optim.lr", "optim.adam_ratio", "module.training.weight_decay"), (0, math.inf, False)),
    **dict.fromkeys(("optim.momentum", "schedule.decay_fraction", "schedule.final"), (0, 1, False)),
    **dict.fromkeys(("seed", "schedule.warmup_steps", "datamodule.seed", "datamodule.num_workers"), (0, math.inf, True)),
    **dict.fromkeys((
        "datamodule.batch_size", "datamodule.eval_batch_size", "datamodule.pack", "datamodule.length",
        "datamodule.batch_tokens", "trainer.accumulate_grad_batches", "trainer.log_every_n_steps",
        "callbacks.doctor.every_n_steps", "callbacks.finite_guard.patience", "callbacks.gradient_guard.patience",
        "callbacks.resume_checkpoint.every_n_train_steps", "early_stopping.patience", "average", "val_samples",
    ), (1, math.inf, True)),
}  # fmt: skip
POSITIVE = ("trainer.gradient_clip_val", "callbacks.finite_guard.max_loss", "callbacks.gradient_guard.max_norm")


def validate(cfg: Any) -> None:
    """Raise ValueError or FileNotFoundError naming the first invalid option of a composed configuration."""
    for key, known in (("task", TASKS), ("when_done", WHEN_DONE), ("prerequisites", PREREQUISITES)):
        if cfg[key] not in known:
            raise ValueError(f"{key}={cfg[key]}: available are {', '.join(known)}")
    stage = cfg.stage.name
    if stage not in cfg.paths.exports:
        raise ValueError(
            f"stage={stage}: it does not say where its export is; in conf/stage/{stage}.yaml: "
            f"paths: {{exports: {{{stage}: ${{paths.checkpoints}}/{stage}}}}}"
        )
    if cfg.tag is None or re.fullmatch(r"[\w.+-]*", cfg.tag, re.ASCII) is None:
        raise ValueError(f"tag={cfg.tag}: it becomes part of names of folders: letters, digits and . _ + -")
    _check_trainer(cfg.trainer)
    if (cfg.task == "replay") != (cfg.spike is not None):
        raise ValueError("task=replay and spike=FILE go together")
    if cfg.ckpt is not None:
        if cfg.task == "fit":
            raise ValueError(f"ckpt={cfg.ckpt} names an export to measure: give task=test, validate or replay; to "
                             "resume a training give resume=FILE.ckpt")  # fmt: skip
        if not is_export(cfg.ckpt):
            raise FileNotFoundError(f"ckpt={cfg.ckpt}: no export folder (model.yaml + model.safetensors) there")
    if cfg.task != "fit" and cfg.resume not in ("auto", "never"):
        raise ValueError(f"resume={cfg.resume} resumes a training: with task={cfg.task} give ckpt=EXPORT")
    if cfg.compile and not cfg.module.training.compile_model:
        raise ValueError(f"compile=true: stage={cfg.stage.name} is not compiled; leave it out")
    if cfg.activation_checkpointing and not cfg.module.training.get("activation_checkpointing"):
        raise ValueError(
            f"activation_checkpointing=true: stage={cfg.stage.name} has nothing to checkpoint; leave it out"
        )
    for key in ("layer_drop", "label_smoothing"):
        if cfg[key] and key not in cfg.module.training:
            raise ValueError(f"{key}={cfg[key]}: stage={cfg.stage.name} has nothing that it applies to; leave it out")
        if not (_is_number(cfg[key], 0, 1) and cfg[key] < 1):
            raise ValueError(f"{key}={cfg[key]}: a number from 0 to below 1")
    for key, (least, most, whole) in NUMBERS.items():
        value = _at(cfg, key)
        if (value is not None or key.startswith("trainer.")) and not _is_number(value, least, most, whole=whole):
            reach = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise ValueError(f"{key}={value}: a {'whole ' if whole else ''}number, {reach}, is needed")
    for key in POSITIVE:
        value = _at(cfg, key)
        if value not in (None, math.inf) and not (_is_number(value, 0) and value > 0):
            clipping = ", or null for no clipping" if key.startswith("trainer.") else ""
            raise ValueError(f"{key}={value}: above 0{clipping}")
    betas = _at(cfg, "optim.betas")
    pair = list(betas) if isinstance(betas, Sequence) else [betas]
    if betas is not None and (len(pair) != 2 or not all(_is_number(beta, 0, 1) and beta < 1 for beta in pair)):
        raise ValueError(f"optim.betas={betas}: two numbers, from 0 to below 1")


def _check_trainer(trainer: Any) -> None:
    by_steps = trainer.get("check_val_every_n_epoch") is None
    for key, meaning in (
        ("max_steps", "at least 1, or -1 for no limit"),
        ("max_epochs", "at least 1, or -1 for no limit"),
        ("val_check_interval", "it counts optimizer steps"),
    ):
        value = trainer.get(key)
        fits = _is_number(value, 1, whole=True) or (value == -1 and key.startswith("max_"))
        if not fits and (key == "max_steps" or (value is not None and (by_steps or key == "max_epochs"))):
            raise ValueError(f"trainer.{key}={value}: a whole number, {meaning}")
    if trainer.max_steps == -1 and trainer.get("max_epochs") in (None, -1):
        raise ValueError(
            "trainer.max_steps=-1 without trainer.max_epochs=N: training would never end, give one of them"
        )


def _at(cfg: Any, key: str) -> Any:
    """The value of a dotted key, or None."""
    for name in key.split("."):
        cfg = None if cfg is None else cfg.get(name)
    return cfg


def _is_number(value: Any, least: float, most: float = math.inf, *, whole: bool = False) -> bool:
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    return right and math.isfinite(value) and least <= value <= most


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
