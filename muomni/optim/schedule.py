"""Learning-rate schedules over a known number of steps: all warm up linearly, and differ in how they come down.

A stage may set `decay_fraction`, which has no meaning for `cosine` and `constant`: they take it, so that every schedule goes with
every stage, and their files in conf/schedule name none.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_stable_decay(
    optimizer: Optimizer, *, max_steps: int, warmup_steps: int, decay_fraction: float, final: float
) -> LambdaLR:
    """Linear warm-up, a plateau, and a linear decay over the last `decay_fraction` of the steps down to `final` x the
    rate (Hu et al. 2024, arXiv:2404.06395)."""
    return _schedule(optimizer, warmup_steps, _plateau_and_decay(max_steps, decay_fraction, final, lambda left: left))


def one_sqrt(
    optimizer: Optimizer, *, max_steps: int, warmup_steps: int, decay_fraction: float, final: float
) -> LambdaLR:
    """As `warmup_stable_decay`, with a decay by 1 - sqrt(share of it that is done) (Hägele et al. 2024, arXiv:2405.18392)."""
    decay = _plateau_and_decay(max_steps, decay_fraction, final, lambda left: 1 - math.sqrt(1 - left))
    return _schedule(optimizer, warmup_steps, decay)


def cosine(
    optimizer: Optimizer, *, max_steps: int, warmup_steps: int, final: float, decay_fraction: float | None = None
) -> LambdaLR:
    """Linear warm-up, and half a cosine over all steps after it down to `final` x the rate (Loshchilov & Hutter 2017,
    arXiv:1608.03983, without restarts)."""
    start = max(0, min(warmup_steps, max_steps) - 1)  # the step that has the whole rate

    def decay(step: int) -> float:
        done = min(1.0, max(0, step - start) / max(1, max_steps - start))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return _schedule(optimizer, warmup_steps, decay)


def constant(optimizer: Optimizer, *, warmup_steps: int, decay_fraction: float | None = None) -> LambdaLR:
    """Linear warm-up and a plateau: for optim=schedule_free, which averages instead of decaying."""
    return _schedule(optimizer, warmup_steps, lambda step: 1.0)


def rest_until(scheduler: LambdaLR, step: int, *, suffix: str) -> None:
    """Groups whose name ends with `suffix` have a rate of 0 until `step`, and the schedule's from there on; what AdamW keeps of
    gradients it gathers meanwhile."""

    def resting(factor: Callable[[int], float]) -> Callable[[int], float]:
        return lambda at: factor(at) if at >= step else 0.0

    for index, group in enumerate(scheduler.optimizer.param_groups):
        if group["name"].endswith(suffix):
            scheduler.lr_lambdas[index] = resting(scheduler.lr_lambdas[index])
            group["lr"] = scheduler.base_lrs[index] * scheduler.lr_lambdas[index](scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]


def _plateau_and_decay(
    max_steps: int, decay_fraction: float, final: float, shape: Callable[[float], float]
) -> Callable[[int], float]:
    """shape: share of the decay's steps that are left, 1 to 0 -> factor, 1 to 0."""
    decay_steps = max(1, round(decay_fraction * max_steps))
    return lambda step: final + (1 - final) * shape(min(1.0, max(0, max_steps - step) / decay_steps))


def _schedule(optimizer: Optimizer, warmup_steps: int, decay: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup_steps)) * decay(step))
