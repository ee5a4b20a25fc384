"""Codebooks one after another: what predicts a code is told the codes before it in the same frame.

Predicted together, the codes of a frame are independent of each other given the text and the frames before, which those of a
residual quantizer are not: each refines what the ones before it left. The transformer runs once a frame all the same, only a
small network once a codebook (as the depth transformer of Lee et al. 2022, arXiv:2203.01941, whose place a sum of embeddings
and a feed-forward layer take here: there are few codebooks).

Legend: B batch, T frames, D width, K codebooks, E entries.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from muomni.nn.mlp import SwiGLU
from muomni.nn.norm import RMSNorm


class DepthConditioning(nn.Module):
    """Hidden states of frames -> logits of their codes.

    Args:
        dim: D. num_codebooks: K, two or more. codebook_size: E.
    """

    def __init__(self, dim: int, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        if num_codebooks < 2:
            raise ValueError("pattern=depth: there is one codebook, whose codes follow no other: give pattern=parallel")
        self.codebook_size = codebook_size
        self.embedding = nn.Embedding((num_codebooks - 1) * codebook_size, dim)
        self.norm = RMSNorm(dim, eps=1e-5)
        self.mlp = SwiGLU(dim, hidden=dim)

    def forward(self, hidden: Tensor, heads: Iterable[nn.Module], codes: Tensor | None) -> Tensor:
        """hidden (B, T, D) and the head of each codebook -> logits (B, T, K, E). codes: (B, T, K) of the very frames; None: those
        that are most likely, each after the one before it."""
        logits, before = list[Tensor](), list[Tensor]()
        for k, head in enumerate(heads):
            logits.append(head(self._told(hidden, before)))
            before.append(logits[-1].argmax(-1) if codes is None else codes[..., k])
        return torch.stack(logits, dim=2)

    def _told(self, hidden: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """What the head of a codebook reads (B, T, D), after the codes (B, T) of those before it; of the first the hidden
        states."""
        if not codes:
            return hidden
        entries = torch.stack([each + k * self.codebook_size for k, each in enumerate(codes)], dim=-1)  # B T k
        x = hidden + self.embedding(entries).sum(2)
        return x + self.mlp(self.norm(x))
