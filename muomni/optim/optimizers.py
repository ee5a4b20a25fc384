"""Optimizers as functions of parameter groups; each group's rate is `lr x lr_scale`."""

from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from muomni.optim.muon import MuonAdamW


def adamw(
    groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], adam_ratio: float = 1.0, eps: float = 1e-8
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), fused: one kernel for all parameters.

    adam_ratio: rate of vectors and embeddings as a share of lr, as in `muon`, so that the two can be exchanged.
    """
    for group in groups:
        group["lr"] = lr * group["lr_scale"] * (1.0 if group["matrices"] else adam_ratio)
    fused = torch.get_default_dtype() == torch.float32
    optimizer = AdamW(groups, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=fused)
    # A fused AdamW offers to undo float16's loss scale itself, and Lightning then refuses to clip under any mixed
    # precision. Without the offer the scaler undoes it before the clipping.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def muon(
    groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], momentum: float, adam_ratio: float
) -> Optimizer:
    """Muon for the matrices, AdamW at `lr x adam_ratio` for the rest (see muon.py)."""
    for group in groups:
        group["muon"] = group["matrices"]
        group["lr"] = lr * group["lr_scale"] * (1.0 if group["matrices"] else adam_ratio)
    return MuonAdamW(groups, lr=lr, betas=(betas[0], betas[1]), momentum=momentum)
