"""Histograms as one PNG file."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: Bins (low, high, count).
Bins = Sequence[tuple[float, float, int]]
ACROSS = 3


def draw_histograms(histograms: Sequence[tuple[str, str, Bins]], path: Path) -> bool:
    """Draw (title, unit, bins) next to each other. The last bin of each may be wider, and is drawn as wide as the others.
    Returns whether there was anything to draw."""
    drawn = [each for each in histograms if each[2]]
    if not drawn:
        return False
    across = min(ACROSS, len(drawn))
    down = -(-len(drawn) // across)
    figure, axes = plt.subplots(down, across, figsize=(4.5 * across, 3.2 * down), squeeze=False)
    for axis in axes.flat[len(drawn) :]:
        axis.set_visible(False)
    for axis, (title, unit, bins) in zip(axes.flat, drawn, strict=False):
        width = bins[0][1] - bins[0][0]
        axis.bar([low for low, _, _ in bins], [count for *_, count in bins], width=0.95 * width, align="edge")
        if bins[-1][1] > bins[-1][0] + 1.01 * width:
            title += f" (last: up to {bins[-1][1]:.4g})"
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(unit)
        axis.grid(alpha=0.3, axis="y")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
