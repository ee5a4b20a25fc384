"""Which way of a metric is better, and the options that follow a metric of the validation split.

monitor=audio/val/wer                       chooses best.ckpt, and what the others look at
early_stopping.patience=3                   ends training after so many validations without a better value
export=best                                 the weights of the best validation instead of the last step's
average=10                                  the mean of the last (export=best: the best) validations' weights
"""

import re
from typing import Any

#: Prefixes of metrics (after the last /) for which higher is better.
HIGHER = (
    "r1_", "exact", "probe_", "stoi", "caption_f1", "codes_used", "image_", "text_", "audio_qa", "spoken_", "tts",
    "voice_match", "accuracy", "fact", "arithmetic", "story",
)  # fmt: skip
#: Words of a metric's name, between underscores, for which lower is better; they go first.
LOWER = frozenset(
    ["loss", "cer", "wer", "gap", "l1", "l2", "distance", "truncated", "runaway", "repeated", "short", "factor"]
)
#: Names of losses.
LOSSES = re.compile(
    r"codebook_\d+|stop|place|global|late|captions|intermediate|consistency|answer|replay|balance|next_token|ctc|characters|commitment|mel|spectral"
)
EXPORTS = ("last", "best")


def mode_of(metric: str) -> str | None:
    """ "max" or "min": which value of a metric (`STAGE/SPLIT/METRIC`, or its last part) is best; None where its name does not
    say."""
    name = metric.rpartition("/")[2]
    if LOWER & set(name.split("_")) or LOSSES.fullmatch(name):
        return "min"
    return "max" if name.startswith(HIGHER) else None


def settle(cfg: Any) -> None:
    """Complete the options of a composed configuration in place: `monitor_mode` where it is null, and no callback for what is
    off. Raises ValueError for those that contradict each other."""
    stage, callbacks = cfg.stage.name, cfg.callbacks or {}
    if re.fullmatch(rf"{re.escape(stage)}/val(_\w+)?/\w+", str(cfg.monitor), re.ASCII) is None:
        raise ValueError(
            f"monitor={cfg.monitor}: a metric of the validation split, {stage}/val/NAME (docs/metrics.md: the loss, or what "
            f"is measured of a test split)"
        )
    mode = cfg.monitor_mode or mode_of(cfg.monitor)
    if mode not in ("min", "max"):
        known = "which way is better is not known of it: give " if cfg.monitor_mode is None else "available are "
        raise ValueError(f"monitor={cfg.monitor}, monitor_mode={cfg.monitor_mode}: {known}monitor_mode=min or max")
    if cfg.export not in EXPORTS:
        raise ValueError(f"export={cfg.export}: available are {', '.join(EXPORTS)}")
    averages = cfg.export != "last" or cfg.average != 1
    if averages and callbacks.get("ema") is not None:
        raise ValueError(
            f"export={cfg.export} average={cfg.average}: callbacks=ema exports an average of its own; leave one of them out"
        )
    cfg.monitor_mode = mode
    for name, wanted in (("early_stopping", cfg.early_stopping.patience is not None), ("weight_average", averages)):
        if name in callbacks and not wanted:
            callbacks[name] = None
