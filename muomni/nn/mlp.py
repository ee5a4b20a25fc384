"""Feed-forward layers of a block; `MLPS` by name."""

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), no bias (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, dim: int, *, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class GeGLU(SwiGLU):
    """The same with GELU, in its approximation by tanh."""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate, approximate="tanh") * up)


class GeluMLP(nn.Module):
    """Linear, GELU, Linear, with biases."""

    def __init__(self, dim: int, *, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim)."""
        return self.down(F.gelu(self.up(x)))


class GeluTanhMLP(GeluMLP):
    """The same with GELU's approximation by tanh (GPT-2)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


MLPS: dict[str, type[nn.Module]] = {"swiglu": SwiGLU, "geglu": GeGLU, "gelu": GeluMLP, "gelu_tanh": GeluTanhMLP}
