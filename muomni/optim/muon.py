"""Muon: momentum orthogonalised by Newton-Schulz steps (Jordan et al. 2024, kellerjordan.github.io/posts/muon), and AdamW
for vectors, embeddings and heads (with_adamw.py).

Matrices of the same shape are orthogonalised as one batch, in float32: bfloat16 matmuls are slower on most CPUs. No step
relies on float32's precision, since a GPU rounds the factors of its products to 10 bits (TF32, which train.py allows) and
no flag of the process is switched for a step's sake.

Not torch.optim.Muon: it takes matrices alone, one after the other, in bfloat16, and needs a second optimizer for the rest.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from muomni.optim.with_adamw import WithAdamW

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonal_factors(matrices: Tensor, *, steps: int = 5) -> tuple[Tensor, Tensor]:
    """(N, rows, columns) -> two factors, float32, of the nearest semi-orthogonal matrices, singular values in about [0.7, 1.2].
    Their product is left to the update, which can add it to a parameter in one pass.

    Of a long matrix the steps act on its Gram matrix: every factor is a polynomial of it, so all of them commute, and the
    long side enters four products instead of ten. The Gram matrix has the squares of the singular values, and what rounding
    takes from the small ones is multiplied by 3.4 a step; so it is recomputed after three steps, from a matrix whose
    small singular values have grown by then. Without that TF32 gave singular values of 4.2 (docs/experiments/thinker.md).
    Where the sides differ by less than half, recomputing it at each step costs less.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT.float() if tall else matrices.float()
    recomputed = range(0, steps, 3) if 2 * x.shape[2] > 3 * x.shape[1] else range(steps)
    # The Frobenius norm is the root of the Gram matrix' trace: no pass over the matrix itself.
    gram = x @ x.mT
    scale = 1 / (gram.diagonal(dim1=1, dim2=2).sum(dim=1).sqrt() + 1e-7)[:, None, None]
    gram = gram * scale.square()
    factor = product = _factor(gram)
    product = product * scale
    for step in range(1, steps):
        if step in recomputed:
            x = product @ x
            gram = x @ x.mT
            factor = product = _factor(gram)
        else:
            gram = factor @ (factor @ gram)
            factor = _factor(gram)
            product = factor @ product
    return (x.mT, product.mT) if tall else (product, x)


def _factor(gram: Tensor) -> Tensor:
    """a + b gram + c gram^2."""
    a, b, c = NEWTON_SCHULZ
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def _shard(update: Tensor, parameter: Tensor) -> Tensor:
    """This process' shard of an update that all have computed alike."""
    if not isinstance(parameter, DTensor):
        return update
    return distribute_tensor(update, parameter.device_mesh, parameter.placements, src_data_rank=None)


class MuonAdamW(WithAdamW):
    """Groups with `muon=True` hold matrices (with `stacked=True` several in a parameter, along its first side) and take
    Muon's step, scaled by 0.2 x sqrt(max side) as in Moonlight (Liu et al. 2025, arXiv:2502.16982), so that AdamW's
    learning rates fit; the others take AdamW's."""

    key = "muon"

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "momentum": momentum})

    def _matrix_step(self, group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                one = parameter[0] if group.get("stacked") else parameter
                by_shape[(one.shape[0], one[0].numel())].append(parameter)
        for (rows, columns), parameters in by_shape.items():
            updates = [
                self._update(parameter, group["momentum"]).reshape(-1, rows, columns) for parameter in parameters
            ]
            left, right = orthogonal_factors(torch.cat(updates))
            decay, rate = 1 - group["lr"] * group["weight_decay"], group["lr"] * 0.2 * max(rows, columns) ** 0.5
            start = 0
            for parameter, update in zip(parameters, updates, strict=True):
                here = slice(start, start := start + len(update))
                if isinstance(parameter, DTensor) or parameter.dtype != torch.float32 or not parameter.is_contiguous():
                    whole = (left[here] @ right[here]).reshape(parameter.shape)
                    parameter.mul_(decay).add_(_shard(whole, parameter), alpha=-rate)
                else:
                    parameter.view(-1, rows, columns).baddbmm_(left[here], right[here], beta=decay, alpha=-rate)

    def _update(self, parameter: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum of a parameter, which moves on by its gradient."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        buffer = state["momentum"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(buffer, momentum)
        return update.full_tensor() if isinstance(update, DTensor) else update  # a shard cannot be orthogonalised alone
