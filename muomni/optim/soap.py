"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321, algorithm 3), and AdamW for
vectors, embeddings and heads (with_adamw.py).

A matrix's gradient G is turned into the eigenvectors of the averages of G G' (left) and G' G (right), in which Adam's second
moment is kept; the averages move at every step, the bases every `frequency` steps by one power iteration and a QR. As in the
authors' code the first gradient only makes the bases, so that none is projected into a basis of its own.

Not pytorch_optimizer's SOAP: it turns a convolution's kernel along each of its four sides and mixes the experts of a mixture,
and steps all that is no matrix one tensor at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from muomni.optim.with_adamw import WithAdamW

SIDES = ("left", "right")


class SoapAdamW(WithAdamW):
    """Groups with `soap=True` hold matrices (with `stacked=True` several in a parameter, along its first side); convolutions are
    (out channels, rest). A side longer than `max_side` is left as it is. The others take AdamW's step."""

    key = "soap"

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        shampoo_beta: float,
        frequency: int,
        max_side: int,
    ) -> None:
        if isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1:
            raise ValueError(f"optim.frequency={frequency}: a whole number of steps, at least 1")
        super().__init__(groups, {"lr": lr, "betas": betas, "shampoo_beta": shampoo_beta})
        self.frequency, self.max_side = frequency, max_side

    def _matrix_step(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if isinstance(parameter, DTensor):
                raise ValueError(
                    "optim=soap takes whole matrices, which trainer=fsdp2 shards: optim=muon, or trainer=ddp"
                )
            if parameter.grad is None:
                continue
            gradient = parameter.grad.reshape(-1, *_shape(parameter, group)).float()
            state = self.state[parameter]
            if state:
                self._update(parameter, gradient, state, group)
            else:
                self._begin(gradient, state, group)

    def basis_bytes(self, parameter: Tensor, group: dict[str, Any]) -> int:
        """Of the averages and bases of a parameter of a SOAP group."""
        rows, columns = _shape(parameter, group)
        sides = sum(side**2 for side in (rows, columns) if side <= self.max_side)
        return 2 * 4 * sides * (parameter.numel() // (rows * columns))

    def _begin(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Bases of the first gradient; no update."""
        state |= {"step": 0, "exp_avg": torch.zeros_like(gradient), "exp_avg_sq": torch.zeros_like(gradient)}
        for side, product in zip(SIDES, _products(gradient), strict=True):
            if product.shape[-1] <= self.max_side:
                state[side] = (1 - group["shampoo_beta"]) * product
                state[f"{side}_basis"] = torch.linalg.eigh(product).eigenvectors.flip(-1).contiguous()

    def _update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["step"] += 1
        step, (beta1, beta2) = state["step"], group["betas"]
        left, right = (state.get(f"{side}_basis") for side in SIDES)
        average = state["exp_avg"].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].lerp_(_turn(gradient, left, right).square_(), 1 - beta2)
        update = _turn(average, left, right).div_(square.sqrt().mul_((1 - beta2**step) ** -0.5).add_(1e-8))
        update = _turn_back(update, left, right).reshape(parameter.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] / (1 - beta1**step))
        for side, product in zip(SIDES, _products(gradient), strict=True):
            if side in state:
                state[side].lerp_(product, 1 - group["shampoo_beta"])
        if step % self.frequency == 0:
            self._move_bases(state)

    def _move_bases(self, state: dict[str, Any]) -> None:
        """One power iteration, the eigenvectors in the order of their eigenvalues; the second moment follows that order."""
        for side, dim in zip(SIDES, (1, 2), strict=True):
            if side not in state:
                continue
            basis = state[f"{side}_basis"]
            product = state[side] @ basis
            order = (basis * product).sum(dim=1).argsort(dim=-1, descending=True)  # (N, side)
            product = product.gather(2, order[:, None, :].expand_as(product))
            state[f"{side}_basis"] = torch.linalg.qr(product).Q
            square = state["exp_avg_sq"]
            index = order[:, :, None] if dim == 1 else order[:, None, :]
            state["exp_avg_sq"] = square.gather(dim, index.expand_as(square))


def _shape(parameter: Tensor, group: dict[str, Any]) -> tuple[int, int]:
    one = parameter[0] if group.get("stacked") else parameter
    return one.shape[0], one[0].numel()


def _products(gradient: Tensor) -> tuple[Tensor, Tensor]:
    return gradient @ gradient.mT, gradient.mT @ gradient


def _turn(matrix: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """A new matrix in the bases; a side without one stays."""
    turned = matrix.clone() if left is None else left.mT @ matrix
    return turned if right is None else turned @ right


def _turn_back(matrix: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    turned = matrix if left is None else left @ matrix
    return turned if right is None else turned @ right.mT
