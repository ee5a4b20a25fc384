"""Optimizers as functions of parameter groups; each group's rate is `lr x lr_scale`, and of what is no matrix (vectors,
embeddings, heads) `lr x lr_scale x adam_ratio`. So they can be exchanged, and all take AdamW's rates and decay."""

from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from muomni.optim.adamw8bit import AdamW8bit
from muomni.optim.lion import Lion
from muomni.optim.muon import MuonAdamW
from muomni.optim.schedule_free import ScheduleFreeAdamW
from muomni.optim.soap import SoapAdamW

Groups = list[dict[str, Any]]


def _set_rates(groups: Groups, *, lr: float, adam_ratio: float, optimizer: str | None = None) -> Groups:
    """optimizer: its name in the groups, by which a checkpoint of another one is refused (stages/resume.py)."""
    for group in groups:
        group["lr"] = lr * group["lr_scale"] * (1.0 if group["matrices"] else adam_ratio)
        if optimizer is not None:
            group["optimizer"] = optimizer
    return groups


def adamw(
    groups: Groups, *, lr: float, betas: tuple[float, float], adam_ratio: float = 1.0, eps: float = 1e-8
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), fused: one kernel for all parameters."""
    fused = torch.get_default_dtype() == torch.float32
    _set_rates(groups, lr=lr, adam_ratio=adam_ratio)
    optimizer = AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=fused)
    # A fused AdamW offers to undo float16's loss scale itself, and Lightning then refuses to clip under any mixed
    # precision. Without the offer the scaler undoes it before the clipping.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def adamw8bit(
    groups: Groups, *, lr: float, betas: tuple[float, float], adam_ratio: float = 1.0, eps: float = 1e-8
) -> Optimizer:
    """AdamW with a byte for each number of its state, but for vectors and embeddings (adamw8bit.py)."""
    for group in groups:
        group["eight_bit"] = not group["name"].endswith("/vectors")
    _set_rates(groups, lr=lr, adam_ratio=adam_ratio, optimizer="8-bit AdamW")
    return AdamW8bit(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)


def muon(groups: Groups, *, lr: float, betas: tuple[float, float], momentum: float, adam_ratio: float) -> Optimizer:
    """Muon for the matrices, AdamW for the rest (muon.py)."""
    for group in groups:
        group["muon"] = group["matrices"]
    _set_rates(groups, lr=lr, adam_ratio=adam_ratio)
    return MuonAdamW(groups, lr=lr, betas=(betas[0], betas[1]), momentum=momentum)


def soap(
    groups: Groups,
    *,
    lr: float,
    betas: tuple[float, float],
    shampoo_beta: float,
    frequency: int,
    max_side: int,
    adam_ratio: float = 1.0,
) -> Optimizer:
    """SOAP for the matrices, AdamW with the same betas for the rest (soap.py)."""
    for group in groups:
        group["soap"] = group["matrices"]
    _set_rates(groups, lr=lr, adam_ratio=adam_ratio, optimizer="SOAP")
    return SoapAdamW(
        groups, lr=lr, betas=(betas[0], betas[1]), shampoo_beta=shampoo_beta, frequency=frequency, max_side=max_side
    )


def lion(groups: Groups, *, lr: float, betas: tuple[float, float], adam_ratio: float = 1.0) -> Optimizer:
    """Lion for all groups (lion.py)."""
    _set_rates(groups, lr=lr, adam_ratio=adam_ratio, optimizer="Lion")
    return Lion(groups, lr=lr, betas=(betas[0], betas[1]))


def schedule_free(
    groups: Groups, *, lr: float, betas: tuple[float, float], adam_ratio: float = 1.0, eps: float = 1e-8
) -> Optimizer:
    """Schedule-free AdamW for all groups (schedule_free.py)."""
    _set_rates(groups, lr=lr, adam_ratio=adam_ratio, optimizer="schedule-free AdamW")
    return ScheduleFreeAdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps)
