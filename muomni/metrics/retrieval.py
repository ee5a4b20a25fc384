"""Retrieval among a fixed number of candidates.

Legend: N items.
"""

import torch
from torch import Tensor


def recall_at_1(similarity: Tensor) -> tuple[float, float]:
    """similarity (N, N), row a picture, column a caption, pairs on the diagonal -> percent of pictures whose best caption
    is their own, and of captions whose best picture is."""
    own = torch.arange(similarity.shape[0], device=similarity.device)
    right = (similarity.argmax(dim=1) == own).float().mean(), (similarity.argmax(dim=0) == own).float().mean()
    return 100 * right[0].item(), 100 * right[1].item()
