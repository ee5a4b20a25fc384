"""Rotary position embedding, half-split layout (Su et al. 2021, arXiv:2104.09864).

Legend: B batch, T time, H heads, K head width.
"""

import torch
from torch import Tensor, nn

from muomni.nn.rope_scaling import Scaling, scaled_frequencies


class Rope(nn.Module):
    """Tables of cos and sin by position; positions may be fractional (times of the Talker's characters).

    Args:
        head_dim: width of a head, even.
        theta: base of the geometric frequency ladder.
        scaling: positions are divided by it (linear interpolation, Chen et al. 2023, arXiv:2306.15595); 1 is off. Or a table of
            `rope_scaling`.
    """

    inverse_frequency: Tensor

    def __init__(self, head_dim: int, *, theta: float, scaling: float | Scaling = 1.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary embedding needs an even head width, got {head_dim}")
        # On an explicit device, also where a model is built without memory: it is in no state dict.
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
        frequency = theta**-exponent
        self.scaling, self.magnitude = 1.0, 1.0
        if isinstance(scaling, int | float):
            self.scaling = scaling
        else:
            frequency, self.magnitude = scaled_frequencies(frequency, scaling, theta=theta)
        self.register_buffer("inverse_frequency", frequency, persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions (T) or (B, T), any real dtype -> cos, sin, float32, (T, K/2) or (B, 1, T, K/2)."""
        angle = positions.float()[..., None] / self.scaling * self.inverse_frequency.float()
        if positions.dim() == 2:
            angle = angle[:, None]
        if self.magnitude != 1:
            return angle.cos() * self.magnitude, angle.sin() * self.magnitude
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + K/2]) by their angles. x (B, H, T, K) -> the same shape and dtype."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
