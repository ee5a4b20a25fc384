"""Loss curves as PNG files."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from muomni.report.collect import StageRun
from muomni.report.run_files import Curve


def smooth(values: list[float], share: float = 0.05) -> np.ndarray:
    """Mean over the last `share` of the curve before each point, at least one point; values that are no numbers are left out,
    NaN where all are."""
    width = max(1, round(share * len(values)))
    known = np.isfinite(values)
    sums = np.cumsum([0.0, *np.where(known, values, 0.0)])
    counts = np.cumsum([0, *known])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    count = counts[ends] - counts[starts]
    return np.where(count > 0, (sums[ends] - sums[starts]) / np.maximum(count, 1), np.nan)


def draw_curves(run: StageRun, path: Path) -> bool:
    """Plot training and validation loss of a run, its named held-out losses, and the entropy floor if it is known.
    Returns whether there was anything to plot."""
    train, val = (run.curves.get(f"{run.stage}/{split}/loss") for split in ("train", "val"))
    prefix = f"{run.stage}/val/"
    named = {name.removeprefix(prefix): curve for name, curve in run.curves.items() if name.startswith(prefix)}
    named.pop("loss", None)
    if train is None and val is None:
        return False
    figure, axes = plt.subplots(1, 1 + bool(named), figsize=(6.5 * (1 + bool(named)), 3.6), squeeze=False)
    _draw_loss(axes[0, 0], run, train, val)
    if named:
        for name, (steps, values) in sorted(named.items()):
            axes[0, 1].plot(steps, values, marker="o", markersize=3, label=name)
        axes[0, 1].set_title(f"{run.stage}: parts of the loss, held out")
        axes[0, 1].legend()
    for axis in axes[0]:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _draw_loss(axis: plt.Axes, run: StageRun, train: Curve | None, val: Curve | None) -> None:
    shown: list[float] = []
    if train is not None:
        steps, values = train
        axis.plot(steps, values, color="tab:blue", alpha=0.25, linewidth=0.8)
        axis.plot(steps, smooth(values), color="tab:blue", label="training")
        shown += values
    if val is not None:
        axis.plot(*val, color="tab:orange", marker="o", markersize=3, label="held out")
        shown += val[1]
    floor = run.metrics.get(f"{run.stage}/test/floor")
    if floor is not None:
        axis.axhline(floor, color="black", linestyle="--", linewidth=0.8, label="entropy floor")
        shown.append(floor)
    if min(shown) > 0 and max(shown) > 10 * min(shown):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # the minor ones' labels would overlap
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_title(f"{run.stage}: loss")
    axis.legend()
