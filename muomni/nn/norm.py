"""Layer normalisation; `NORMS` by name."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, dim: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim) of the same dtype; computed in float32."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class OffsetRMSNorm(RMSNorm):
    """x / rms(x) * (1 + weight), a weight of 0 at first (Gemma, arXiv:2403.08295)."""

    def __init__(self, dim: int, *, eps: float) -> None:
        super().__init__(dim, eps=eps)
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, 1 + self.weight.float(), self.eps).to(x.dtype)


#: rms; rms_offset: with weights around 0; layer: with mean and biases (Ba et al. 2016, arXiv:1607.06450).
NORMS: dict[str, type[nn.Module]] = {"rms": RMSNorm, "rms_offset": OffsetRMSNorm, "layer": nn.LayerNorm}
