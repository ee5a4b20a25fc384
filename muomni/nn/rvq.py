"""Residual vector quantisation: each codebook quantises the residual of those before it.

SoundStream (Zeghidour et al. 2021, arXiv:2107.03312): codebooks that follow their inputs by exponential moving averages
(van den Oord et al. 2017, arXiv:1711.00937, appendix A.1), renewal of idle entries, quantiser dropout. Without averages
(`decay` None) the codebooks learn by the gradient of the codebook loss.

Legend: B batch, T time, D width, K codebooks, E entries of a codebook, N vectors.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.distributed import collectives


@dataclass(slots=True)
class QuantizerOutput:
    """quantized (B, T, D), straight-through; codes (B, T, K) long; commitment: scalar, with any codebook loss."""

    quantized: Tensor
    codes: Tensor
    commitment: Tensor


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """vectors (N, D), codebook (E, D) -> index (N) of the nearest entry (Euclidean; the first of equals).

    In float32 whatever the process allows: half precision, as of autocast, changed 2 to 5 of 100 codes.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codebook = vectors.float(), codebook.float()
        half_norm = codebook.square().sum(1) / 2
        if vectors.is_cuda and torch.get_float32_matmul_precision() != "highest":
            return (half_norm - exact_product(vectors, codebook.T)).argmin(dim=1)
        return torch.addmm(half_norm, vectors, codebook.T, alpha=-1.0).argmin(dim=1)


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b to float32's precision on a device that rounds the factors of a product to TF32, in three products of factors
    that TF32 holds (Ootomo and Yokota 2022, arXiv:2203.03341)."""
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    return a_high @ b_high + (a_high @ b_low + a_low @ b_high)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """x = high + low; high has 10 bits of mantissa."""
    high = (x.view(torch.int32) & ~0x1FFF).view(torch.float32)
    return high, x - high


class ResidualQuantizer(nn.Module):
    """K codebooks of E vectors of D numbers.

    Args:
        dim: D. num_codebooks: K. codebook_size: E.
        decay: of the moving averages, in (0, 1); None trains the codebooks by gradient.
        dropout: probability that a training row uses only its first n codebooks, n uniform in 1..K-1.
        idle: with averages: an entry whose averaged count falls below this share of the mean count is redrawn from
            the batch; 0 renews nothing.
    """

    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(
        self, *, dim: int, num_codebooks: int, codebook_size: int, decay: float | None, dropout: float, idle: float
    ) -> None:
        super().__init__()
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"decay of the codebooks must be between 0 and 1, or null, not {decay}")
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.decay, self.dropout, self.idle = decay, dropout, idle
        self.codebooks = nn.Parameter(torch.randn(num_codebooks, codebook_size, dim) / dim**0.5)
        if decay is not None:
            self.codebooks.requires_grad_(False)
            self.register_buffer("counts", torch.ones(num_codebooks, codebook_size))
            self.register_buffer("sums", self.codebooks.detach().clone())
            self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self._running = False  # `started`, once the host knows it

    def encode(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> codes (B, T, K)."""
        residual, codes = x.flatten(0, -2), []
        for codebook in self.codebooks:
            index = nearest(residual, codebook)
            residual = residual - codebook[index]
            codes.append(index)
        return torch.stack(codes, dim=-1).view(*x.shape[:-1], self.num_codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, T, n) of the first n <= K codebooks -> (B, T, D), their sum; frames are independent."""
        n = codes.shape[-1]
        if not 1 <= n <= self.num_codebooks:
            raise ValueError(f"codes of {n} codebooks, but the codec has {self.num_codebooks}")
        offsets = torch.arange(n, device=codes.device) * self.codebook_size
        flat = (codes + offsets).reshape(-1, n)
        return F.embedding_bag(flat, self.codebooks[:n].flatten(0, 1), mode="sum").view(*codes.shape[:-1], -1)

    def forward(self, x: Tensor, *, keep: Tensor | None) -> QuantizerOutput:
        """x (B, T, D); keep (B, T) bool, True for valid frames: only these count in losses and averages.

        In training mode the averages move, and rows drop codebooks.
        """
        B, T, D = x.shape
        valid = torch.ones(B * T, dtype=torch.bool, device=x.device) if keep is None else keep.reshape(-1)
        flat, weight = x.reshape(-1, D).float(), valid.float()
        if self.training and self.decay is not None and not self._running:
            if not bool(self.started):
                self._start(flat.detach()[valid])
            self._running = bool(self.started)
        used = self._codebooks_used(B, x.device).repeat_interleave(T)
        residual, total, codes = flat, torch.zeros_like(flat), []
        commitment, codebook_loss = flat.new_zeros(()), flat.new_zeros(())
        number = weight.sum() * D
        for k, codebook in enumerate(self.codebooks):
            index = nearest(residual.detach(), codebook.detach())
            entry = codebook[index]
            active = (used > k).to(flat.dtype)[:, None]
            square = active * weight[:, None]
            commitment = commitment + (square * (residual - entry.detach()).square()).sum()
            if self.decay is None:
                codebook_loss = codebook_loss + (square * (residual.detach() - entry).square()).sum()
            elif self.training:
                self._follow(k, residual.detach(), index, square[:, 0])
            total = total + active * entry
            residual = residual - entry.detach()
            codes.append(index)
        quantized = flat + (total - flat).detach()
        return QuantizerOutput(
            quantized=quantized.view(B, T, D).to(x.dtype),
            codes=torch.stack(codes, dim=-1).view(B, T, -1),
            commitment=collectives.mean(commitment + codebook_loss, number),
        )

    def _codebooks_used(self, rows: int, device: torch.device) -> Tensor:
        """(rows): how many codebooks each row uses in this step."""
        everything = torch.full((rows,), self.num_codebooks, device=device)
        if not self.training or not self.dropout or self.num_codebooks == 1:
            return everything
        fewer = torch.randint(1, self.num_codebooks, (rows,), device=device)
        return torch.where(torch.rand(rows, device=device) < self.dropout, fewer, everything)

    @torch.no_grad()
    def _start(self, vectors: Tensor) -> None:
        """Initialise the codebooks from the first batch of finite vectors (in every process), each from the residuals of
        those before it."""
        vectors = collectives.all_gather_cat(vectors)
        if not bool(torch.isfinite(vectors).all()):
            return
        for k in range(self.num_codebooks):
            picked = vectors[torch.randint(len(vectors), (self.codebook_size,), device=vectors.device)]
            picked = collectives.broadcast(picked + 0.01 * vectors.std() * torch.randn_like(picked))
            self.codebooks[k] = picked
            vectors = vectors - picked[nearest(vectors, picked)]
        self.sums.copy_(self.codebooks)
        self.counts.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def _follow(self, k: int, vectors: Tensor, index: Tensor, weight: Tensor) -> None:
        """One step of the moving averages of codebook k; vectors (N, D), index (N), weight (N) 0 or 1.

        A batch that is not finite changes nothing (the gradient guard does not guard averages). Nothing here waits for the
        device: decisions are tensors.
        """
        assert self.decay is not None
        E, D = self.codebook_size, vectors.shape[1]
        count = collectives.all_reduce_sum(vectors.new_zeros(E).index_add_(0, index, weight))
        total = collectives.all_reduce_sum(vectors.new_zeros(E, D).index_add_(0, index, vectors * weight[:, None]))
        whole = torch.isfinite(total).all()
        self.counts[k].lerp_(torch.where(whole, count, self.counts[k]), 1 - self.decay)
        self.sums[k].lerp_(torch.where(whole, total, self.sums[k]), 1 - self.decay)
        if self.idle:
            self._renew(k, vectors, weight, whole & count.any())
        self.codebooks[k] = self.sums[k] / self.counts[k].clamp_min(1e-6)[:, None]

    def _renew(self, k: int, vectors: Tensor, weight: Tensor, may: Tensor) -> None:
        """Redraw idle entries from the vectors of weight 1, where the scalar `may` is true."""
        mean = self.counts[k].mean()
        idle = (self.counts[k] < self.idle * mean) & may
        wanted = len(idle)
        # Reading is free on a CPU, and several processes wait for each other in any case.
        if idle.device.type == "cpu" or collectives.world_size() > 1:
            wanted = int(idle.sum())
            if not wanted:
                return
        vectors, weight = collectives.all_gather_cat(vectors), collectives.all_gather_cat(weight)
        may_draw = weight.any() & torch.isfinite(vectors).all()  # drawing from nothing is an error
        weight = torch.where(may_draw, weight, 1.0)
        drawn = collectives.broadcast(vectors[torch.multinomial(weight, wanted, replacement=True)])
        drawn = drawn[(idle.cumsum(0) - 1).clamp(0, wanted - 1)]  # the first for the first idle entry
        self.counts[k] = torch.where(idle, mean, self.counts[k])
        self.sums[k] = torch.where(idle[:, None], drawn * mean, self.sums[k])
