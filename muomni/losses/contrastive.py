"""Contrastive losses between pictures and captions.

Legend: B pairs, A pictures, C captions, P patches of a picture, T tokens of a caption, E width of the shared space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def late_interaction(patches: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
    """Similarity (A, C) of pictures and captions by their parts: the mean over a caption's tokens of the best patch.

    patches (A, P, E) and tokens (C, T, E) are normalised here; keep (C, T) bool marks real tokens. The caption's side of
    FILIP (Yao et al. 2022, arXiv:2111.07783): every word must find its place; a patch need not find a word.
    """
    A, P, E = patches.shape
    C, T, _ = tokens.shape
    patches, tokens = F.normalize(patches.float(), dim=-1), F.normalize(tokens.float(), dim=-1)
    real = tokens[keep]  # N E: only real tokens are compared
    # `max`, not `amax`: its gradient is a scatter to one patch instead of a division over all of them.
    best = (patches.reshape(A * P, E) @ real.T).view(A, P, -1).max(dim=1).values  # A N
    owner = torch.arange(C, device=keep.device)[:, None].expand(C, T)[keep]
    total = best.new_zeros(A, C).index_add(1, owner, best)
    return total / keep.sum(dim=1).clamp(min=1)


def cosine(pictures: Tensor, captions: Tensor) -> Tensor:
    """Similarity (A, C) of whole pictures (A, E) and whole captions (C, E)."""
    return F.normalize(pictures.float(), dim=-1) @ F.normalize(captions.float(), dim=-1).T


def info_nce(similarity: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over a batch of pairs (Radford et al. 2021, arXiv:2103.00020): a scalar in nats.

    similarity (B, B), pairs on the diagonal; scale: 1 / temperature. Chance is log(B).
    """
    logits = similarity * scale
    labels = torch.arange(logits.shape[0], device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
