"""Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505): each number of a vector is rounded to one of a few levels.

There is no codebook to learn and no commitment. A codebook of E = 2^b entries is a group of about b / 2 numbers of four levels
each; K groups of one projection stand for K codebooks, in the place of rvq.py.

Legend: B batch, T time, D width, K codebooks, E entries of a codebook, G numbers of a group.
"""

import math

import torch
from torch import Tensor, nn

from muomni.nn.rvq import QuantizerOutput

SHRINK = 1e-3  # tanh reaches the outermost levels before it is flat


def levels_of(codebook_size: int) -> list[int]:
    """The levels of a group's numbers, whose product is E: 4 each, and one of 2 or 8 where E is no power of 4."""
    bits = codebook_size.bit_length() - 1
    if codebook_size != 2**bits or bits < 1:
        raise ValueError(f"quantizer=fsq: codebook_size must be a power of 2, not {codebook_size}")
    return [2] if bits == 1 else [4 if bits % 2 == 0 else 8, *[4] * (bits // 2 - 1)]


class FiniteScalarQuantizer(nn.Module):
    """K groups of numbers with a finite number of levels each.

    Args:
        dim: D. num_codebooks: K. codebook_size: E, a power of 2.
        dropout: probability that a training row uses only its first n groups, n uniform in 1..K-1.
    """

    levels: Tensor
    basis: Tensor
    decay = None  # as of `ResidualQuantizer`: there are no averages

    def __init__(self, *, dim: int, num_codebooks: int, codebook_size: int, dropout: float) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size, self.dropout = num_codebooks, codebook_size, dropout
        levels = levels_of(codebook_size)
        self.proj_in = nn.Linear(dim, num_codebooks * len(levels))
        self.proj_out = nn.Linear(num_codebooks * len(levels), dim)
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels, device="cpu"), persistent=False)  # explicit: as in rope.py
        self.register_buffer("basis", torch.tensor(basis, device="cpu"), persistent=False)

    def _rounded(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> whole numbers 0..level-1 as floats (B, T, K, G); gradients are those before rounding."""
        with torch.autocast(x.device.type, enabled=False):
            numbers = self.proj_in(x.float()).unflatten(-1, (self.num_codebooks, -1))
        top = (self.levels - 1).float()
        spread = (torch.tanh(numbers) * (1 + SHRINK) + 1) / 2 * top
        return spread + (spread.round().clamp_min(0).minimum(top) - spread).detach()

    def _vectors(self, numbers: Tensor) -> Tensor:
        """Whole numbers (B, T, n, G) of the first n groups -> (B, T, D); groups that are absent count as the middle."""
        centred = numbers / (self.levels - 1) * 2 - 1
        absent = self.num_codebooks - numbers.shape[2]
        with torch.autocast(numbers.device.type, enabled=False):
            flat = nn.functional.pad(centred, (0, 0, 0, absent)).flatten(2)
            vectors: Tensor = self.proj_out(flat)
        return vectors

    def encode(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> codes (B, T, K)."""
        return (self._rounded(x).round().long() * self.basis).sum(-1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, T, n) of the first n <= K codebooks -> (B, T, D)."""
        n = codes.shape[-1]
        if not 1 <= n <= self.num_codebooks:
            raise ValueError(f"codes of {n} codebooks, but the codec has {self.num_codebooks}")
        return self._vectors((codes[..., None] // self.basis % self.levels).to(self.proj_out.weight.dtype))

    def forward(self, x: Tensor, *, keep: Tensor | None) -> QuantizerOutput:
        """x (B, T, D); keep is ignored. In training mode rows drop groups. commitment: 0."""
        numbers = self._rounded(x)
        codes = (numbers.detach().round().long() * self.basis).sum(-1)
        if self.training and self.dropout and self.num_codebooks > 1:
            B, K = len(x), self.num_codebooks
            used = torch.randint(1, K, (B,), device=x.device)
            used = torch.where(torch.rand(B, device=x.device) < self.dropout, used, K)
            kept = torch.arange(K, device=x.device)[None] < used[:, None]  # B K
            numbers = torch.where(kept[:, None, :, None], numbers, (self.levels - 1) / 2)
        return QuantizerOutput(
            quantized=self._vectors(numbers).to(x.dtype), codes=codes, commitment=numbers.new_zeros(())
        )
