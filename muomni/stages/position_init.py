"""The positions of an image's tokens in the Thinker's own words, so that it finds a cell that is named.

Legend: N tokens of an image, V vocabulary, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from muomni.models.projector import ImageProjector


def cell_names(grid: int) -> list[str]:
    """What the cells of a grid x grid image are called, in reading order, by thirds: "top left", ..., "centre"."""
    rows, columns = ("top", "middle", "bottom"), ("left", "centre", "right")
    third = [(6 * cell + 3) // (2 * grid) for cell in range(grid)]  # third of the middle of a cell
    names = [f"{rows[third[y]]} {columns[third[x]]}" for y in range(grid) for x in range(grid)]
    return [name.replace("middle centre", "centre") for name in names]


@torch.no_grad()
def init_positions(
    projector: ImageProjector, words: Tensor, encode: Callable[[str], list[int]], *, scale: float = 1.0
) -> None:
    """Set the projector's positions (N, D) to the sums of the embeddings, words (V, D) times `scale`, of their names; a no-op
    without learned positions, or with a single token."""
    if projector.positions is not None and projector.num_tokens > 1:
        projector.positions.copy_(
            torch.stack([scale * words[encode(name)].sum(0) for name in cell_names(projector.grid)])
        )
