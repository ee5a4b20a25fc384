"""Learning-rate schedules over a known number of steps."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_stable_decay(
    optimizer: Optimizer, *, max_steps: int, warmup_steps: int, decay_fraction: float, final: float
) -> LambdaLR:
    """Linear warm-up, a plateau, and a linear decay over the last `decay_fraction` of the steps down to `final` x the
    rate (Hu et al. 2024, arXiv:2404.06395)."""
    decay_steps = max(1, round(decay_fraction * max_steps))

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, warmup_steps))
        left = min(1.0, max(0, max_steps - step) / decay_steps)
        return warm * (final + (1 - final) * left)

    return LambdaLR(optimizer, factor)
