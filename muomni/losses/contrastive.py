"""Contrastive losses between images and captions. Similarities and losses are float32, under autocast too: bfloat16 has
ties between the best.

Images often share a caption ("a photo of a dog"), and an image may come twice. Such pairs are equals: each is as right as
the other, so no negative (`equal_pairs`). A softmax leaves them out (false negatives eliminated, Huynh et al. 2022,
arXiv:2011.11765), so that a perfect model's loss is 0 whatever is equal in a batch.

Legend: B pairs, A images, C captions, P patches of an image, T tokens of a caption, E width of the shared space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.metrics.retrieval import equals_of


def late_interaction(patches: Tensor, tokens: Tensor, keep: Tensor, *, real: Tensor | None = None) -> Tensor:
    """Similarity (A, C) of images and captions by their parts: the mean over a caption's tokens of the best patch.

    patches (A, P, E) and tokens (C, T, E) are normalised here; keep (C, T) bool marks real tokens. The caption's side of
    FILIP (Yao et al. 2022, arXiv:2111.07783): every word must find its place; a patch need not find a word.
    real: flat indices (N) long of the real tokens, where they are known: else a GPU is waited for.
    """
    A, P, E = patches.shape
    C, T, _ = tokens.shape
    if real is None:
        real = keep.flatten().nonzero()[:, 0]
    with torch.autocast(patches.device.type, enabled=False):
        patches, tokens = F.normalize(patches.float(), dim=-1), F.normalize(tokens.float(), dim=-1)
        words = tokens.flatten(0, 1)[real]  # N E: only real tokens are compared
        # `max`, not `amax`: its gradient is a scatter to one patch instead of a division over all of them.
        best = (patches.reshape(A * P, E) @ words.T).view(A, P, -1).max(dim=1).values  # A N
    owner = real.div(T, rounding_mode="floor")
    total = best.new_zeros(A, C).index_add(1, owner, best)
    return total / keep.sum(dim=1).clamp(min=1)


def cosine(images: Tensor, captions: Tensor) -> Tensor:
    """Similarity (A, C) of whole images (A, E) and whole captions (C, E)."""
    with torch.autocast(images.device.type, enabled=False):
        return F.normalize(images.float(), dim=-1) @ F.normalize(captions.float(), dim=-1).T


def info_nce(similarity: Tensor, scale: Tensor, *, equal: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE over a batch of pairs (Radford et al. 2021, arXiv:2103.00020): a scalar in nats.

    similarity (B, B), pairs on the diagonal; scale: 1 / temperature. equal: (B, B) bool, True where image and caption of
    two pairs belong together (`equal_pairs`); None: `equals_of` the similarities. Chance is the log of a row's candidates,
    B where nothing is equal.
    """
    logits = similarity.float() * scale
    B = len(logits)
    equal = equals_of(similarity) if equal is None else equal
    others = equal & ~torch.eye(B, dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(others, float("-inf"))
    labels = torch.arange(B, device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def caption_choice(similarity: Tensor, scale: Tensor, captions: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each image over the distinct captions of a batch, in nats: classification where captions name classes.

    similarity (B, B) of images and captions, pairs on the diagonal; scale: 1 / temperature; captions (B): their keys, equal for
    equal captions. smoothing: share of the target that is spread over all of the captions (Szegedy et al. 2016,
    arXiv:1512.00567). Chance is the log of the number of distinct captions.
    """
    first = (
        (captions[:, None] == captions).int().argmax(dim=1)
    )  # B: the first pair with the same caption stands for all
    repeated = first != torch.arange(len(captions), device=captions.device)
    logits = (similarity.float() * scale).masked_fill(repeated, float("-inf"))
    log_probs = logits.log_softmax(dim=1)
    right = log_probs.gather(1, first[:, None])[:, 0]
    spread = log_probs.masked_fill(repeated, 0.0).sum(dim=1) / (~repeated).sum()
    return -((1 - smoothing) * right + smoothing * spread).mean()


def equal_pairs(images: Tensor, captions: Tensor) -> Tensor:
    """Keys of the images and the captions of B pairs (B) -> (B, B) bool: True where image (row) and caption (column) of
    two pairs belong together, since the pairs have the same image or the same caption."""
    return (images[:, None] == images) | (captions[:, None] == captions)


def pair_keys(images: Tensor, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """images (B, ...), ids (B, T) of captions with lengths (B) -> (B) keys of the images, (B) of the captions: the same for the
    same. Images are compared in float16, as they are kept in memory."""
    keep = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
    return fingerprints(images.half()), fingerprints((ids + 1) * keep)


def fingerprints(rows: Tensor) -> Tensor:
    """(B, ...) of any type -> (B) int64, the same for rows of the same bits and, but for one chance in 2^32 at most, for no
    others; zeros at a row's end change nothing. Sums of integers: exact, in whatever order a device adds them."""
    raw = rows.detach().flatten(1).contiguous().view(torch.uint8)
    words = F.pad(raw, (0, -raw.shape[1] % 8)).view(torch.int64)
    weights = torch.arange(1, words.shape[1] + 1, device=rows.device) * -7046029254386353131
    weights = (weights ^ (weights >> 32)) * -4658895280553007687
    return (words * (weights ^ (weights >> 29) | 1)).sum(dim=1)
