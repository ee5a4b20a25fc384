"""A mixture of experts in place of a block's MLP: a router sends each token to few of many SwiGLU experts.

Shazeer et al. 2017 (arXiv:1701.06538), Fedus et al. 2021 (Switch, arXiv:2101.03961), Jiang et al. 2024 (Mixtral,
arXiv:2401.04088). Nothing is dropped and there is no capacity: what a token gets depends on the token alone, so that a
packed row, a padded batch and a cached step compute the same. Tokens are sorted by expert and multiplied by one grouped
kernel; their numbers never leave the device.

Legend: N tokens, D width, F width of an expert, E experts, K experts a token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.transformer import Block

ALIGNED = 8  # half-precision numbers in 16 bytes, of which the grouped kernel needs rows to be a multiple


class Experts(nn.Module):
    """The weights of E SwiGLU networks, stacked: gate_up (E, 2 F, D), down (E, D, F). See `initialise` for their initial values.

    Args:
        dim: D. hidden: F, both multiples of 8. num_experts: E.
    """

    def __init__(self, dim: int, *, hidden: int, num_experts: int) -> None:
        super().__init__()
        if dim % ALIGNED or hidden % ALIGNED:
            raise ValueError(f"num_experts={num_experts}: dim {dim} and ff_dim {hidden} must be multiples of {ALIGNED}")
        self.gate_up = nn.Parameter(torch.empty(num_experts, 2 * hidden, dim))
        self.down = nn.Parameter(torch.empty(num_experts, dim, hidden))

    # torch 2.11 runs the grouped kernel in float32, but refuses to trace it. This is torch.compiler.disable, but does not import
    # the compiler, which takes seconds, before there is something to run.
    @torch._disable_dynamo
    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """x (N, D) sorted by expert; ends (E) int32: where each expert's tokens end -> (N, D)."""
        device = x.device.type
        if torch.is_autocast_enabled(device):  # the grouped kernel has no rule of its own
            x = x.to(torch.get_autocast_dtype(device))
        gate, up = F.grouped_mm(x, self.gate_up.to(x.dtype).mT, offs=ends).chunk(2, dim=-1)
        return F.grouped_mm(F.silu(gate) * up, self.down.to(x.dtype).mT, offs=ends)


class MoE(nn.Module):
    """sum over the K most likely experts of softmax(their router logits) x expert(x).

    Args:
        dim: D. hidden: F of each expert. num_experts: E. per_token: K, from 1 to E.
        norm_topk_prob: the weights are the softmax over the K, and sum to 1; else that over all E.
    """

    def __init__(self, dim: int, *, hidden: int, num_experts: int, per_token: int, norm_topk_prob: bool = True) -> None:
        super().__init__()
        if not 1 <= per_token <= num_experts:
            raise ValueError(f"experts_per_token={per_token}: from 1 to num_experts={num_experts}")
        self.per_token, self.norm_topk_prob = per_token, norm_topk_prob
        self.router = nn.Linear(dim, num_experts, bias=False)
        self.experts = Experts(dim, hidden=hidden, num_experts=num_experts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., D) -> (..., D), and the router's logits (..., E), float32, for the balance loss."""
        with torch.autocast(x.device.type, enabled=False):  # half precision unsettles routing (Switch, 2.4)
            logits = self.router(x.float())
        flat, K = x.flatten(0, -2), self.per_token
        best, chosen = logits.flatten(0, -2).topk(K)  # N K
        order = chosen.flatten().argsort(stable=True)
        everyone = torch.arange(logits.shape[-1], device=x.device)
        ends = (chosen.flatten() == everyone[:, None]).sum(1).cumsum(0).int()
        answers = self.experts(flat[order // K], ends)[order.argsort()].view(-1, K, x.shape[-1])  # N K D
        weights = best.softmax(dim=-1)
        if not self.norm_topk_prob:
            weights = (best - logits.flatten(0, -2).logsumexp(dim=-1, keepdim=True)).exp()
        return (answers * weights[..., None].to(answers.dtype)).sum(1).view(x.shape), logits


class MoEBlock(Block):
    """A transformer block whose MLP is an `MoE`."""

    def feed_forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D), and the router's logits."""
        return self.mlp(x)
