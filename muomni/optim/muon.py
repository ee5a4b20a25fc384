"""Muon: momentum orthogonalised by Newton-Schulz steps (Jordan et al. 2024, kellerjordan.github.io/posts/muon), with AdamW
beside it for vectors, embeddings and heads, as one optimizer, so that a trainer counts one step.

Matrices of the same shape are orthogonalised as one batch. In float32: bfloat16 matmuls are slower on most CPUs.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import AdamW, Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """(N, rows, columns) -> the nearest semi-orthogonal matrices, singular values in about [0.7, 1.2].

    The steps act on the Gram matrix alone: every factor is a polynomial of it, so all of them commute, and the long side
    enters two products instead of two a step: of a 768 x 128 matrix 29 products of 128 x 128 are left of 65.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = x @ x.mT
    product: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ (factor @ gram)
    assert product is not None
    x = product @ x
    return x.mT if tall else x


def _whole(update: Tensor) -> Tensor:
    """All of a matrix that processes share (FSDP2): a part of it cannot be orthogonalised alone."""
    return update.full_tensor() if isinstance(update, DTensor) else update


def _share(update: Tensor, parameter: Tensor) -> Tensor:
    """This process' part of an update that all have computed alike."""
    if not isinstance(parameter, DTensor):
        return update
    return distribute_tensor(update, parameter.device_mesh, parameter.placements, src_data_rank=None)


class MuonAdamW(Optimizer):
    """Groups with `muon=True` hold matrices (with `stacked=True` several in a parameter, along its first side) and take
    Muon's step, scaled by 0.2 x sqrt(max side) as in Moonlight (Liu et al. 2025, arXiv:2502.16982), so that AdamW's
    learning rates fit; the others take AdamW's."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": 0.0, "muon": False})
        others = [group for group in self.param_groups if not group["muon"]]
        self._adamw = AdamW(others, lr=lr, betas=betas, fused=True) if others else None
        if self._adamw is not None:
            # The same dictionaries: a schedule that changes a rate here changes it there.
            self._adamw.param_groups = others
            self._adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                self._muon_step(group)
        if self._adamw is not None:
            self._adamw.step()
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                one = parameter[0] if group.get("stacked") else parameter
                by_shape[(one.shape[0], one[0].numel())].append(parameter)
        for (rows, columns), parameters in by_shape.items():
            updates: list[Tensor] = []
            for parameter in parameters:
                state, gradient = self.state[parameter], parameter.grad
                assert gradient is not None
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                buffer = state["momentum"].lerp_(gradient, 1 - group["momentum"])
                updates.append(_whole(gradient.lerp(buffer, group["momentum"])).view(-1, rows, columns))
            scale = 0.2 * max(rows, columns) ** 0.5
            counts = [len(update) for update in updates]
            for parameter, update in zip(parameters, orthogonalise(torch.cat(updates)).split(counts), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(_share(update.reshape(parameter.shape), parameter), alpha=-group["lr"] * scale)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both; the inner AdamW looks at the new groups and state."""
        super().load_state_dict(state_dict)
        if self._adamw is not None:
            self._adamw.param_groups = [group for group in self.param_groups if not group["muon"]]
            self._adamw.state = self.state
