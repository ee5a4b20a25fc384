"""CTC loss (Graves et al. 2006) that counts the clips which cannot carry their transcript instead of hiding them.

Legend: B batch, T frames, S symbols with the blank at 0, C characters.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.distributed import collectives

BLANK = 0


@dataclass(slots=True)
class CTCLoss:
    """loss: nats a character, scalar; too_short (B) bool: clips with fewer frames than their transcript needs."""

    loss: Tensor
    too_short: Tensor


def frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """(B): one frame a character and a blank between equal neighbours. targets (B, C), target_lengths (B)."""
    inside = torch.arange(1, targets.shape[1], device=targets.device)[None] < target_lengths[:, None]
    repeats = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
    return target_lengths + repeats


def ctc_loss(
    logits: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    *,
    known: tuple[list[int], list[int], list[int]] | None = None,
    label_smoothing: float = 0.0,
) -> CTCLoss:
    """logits (B, T, S), lengths (B) of valid frames; targets (B, C) in 1..S-1, target_lengths (B).

    Clips that are too short are left out of the loss; with none left it is 0 with a gradient of 0.
    label_smoothing: weight of the cross-entropy with the uniform distribution, mean over frames; CTC has the rest (Kim et al.
    2017, arXiv:1712.05382: predictions of a small set of recordings are less sure of themselves).
    known: lengths, target_lengths and `frames_needed` as the host knows them: else torch's kernel waits for the device.
    """
    if known is None:
        needed = frames_needed(targets, target_lengths)
        known = lengths.tolist(), target_lengths.tolist(), needed.tolist()
    frames, characters, least = known
    short = [has < needs for has, needs in zip(frames, least, strict=True)]
    # A clip left out reads an empty target, so that nothing is infinite; its weight is 0.
    counted = [0 if out else count for out, count in zip(short, characters, strict=True)]
    log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # T B S
    nats = F.ctc_loss(log_probs, targets, frames, counted, blank=BLANK, reduction="none")  # type: ignore[arg-type]
    too_short = torch.tensor(short).to(logits.device, non_blocking=True)
    total = (nats * (~too_short)).sum()
    number = torch.tensor(sum(counted)).to(logits.device, non_blocking=True)
    loss = collectives.mean(total, number)
    if label_smoothing:
        used = (torch.arange(len(log_probs), device=logits.device)[:, None] < lengths) & ~too_short  # T B
        uniform = collectives.mean(-(log_probs.mean(dim=-1) * used).sum(), used.sum())
        loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return CTCLoss(loss=loss, too_short=too_short)


def consistency_loss(logits: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """How unlike two views of the same clips are, frame by frame: the mean of both divergences, the target of each without a
    gradient (CR-CTC, Yao et al. 2024, arXiv:2410.05101), in nats a character.

    logits (2B, T, S): row b + B is the other view of row b, with the same frames; lengths (2B) of valid frames;
    target_lengths (2B).
    """
    first, second = F.log_softmax(logits.float(), dim=-1).chunk(2)
    half = len(first)
    valid = torch.arange(logits.shape[1], device=logits.device)[None] < lengths[:half, None]
    both = _divergence(first.detach(), second) + _divergence(second.detach(), first)
    return collectives.mean((0.5 * both * valid).sum(), target_lengths[:half].sum())


def _divergence(target: Tensor, log_probs: Tensor) -> Tensor:
    """KL(target, log_probs) of each frame: (B, T, S) each -> (B, T)."""
    return F.kl_div(log_probs, target, reduction="none", log_target=True).sum(-1)
