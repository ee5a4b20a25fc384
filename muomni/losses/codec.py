"""Losses of the codec and of the Talker that speaks its codes.

Legend: B batch, T frames, M mel bins, K codebooks, E entries.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.distributed import collectives
from muomni.models.outputs import TalkerOutput


def masked_l1(rebuilt: Tensor, mel: Tensor, keep: Tensor) -> Tensor:
    """Mean absolute difference over the valid frames; rebuilt, mel (B, T, M), keep (B, T) bool."""
    return _mean((rebuilt - mel).abs().mean(-1), keep)


def masked_l2(rebuilt: Tensor, mel: Tensor, keep: Tensor) -> Tensor:
    """Mean squared difference over the valid frames; rebuilt, mel (B, T, M), keep (B, T) bool."""
    return _mean((rebuilt - mel).square().mean(-1), keep)


def _mean(x: Tensor, keep: Tensor) -> Tensor:
    return collectives.mean((x * keep).sum(), keep.sum())


def duration_loss(durations: Tensor, char_times: Tensor, lengths: Tensor) -> Tensor:
    """Mean absolute error, in frames, of predicted durations (B, C) against the differences of char_times (B, C); lengths (B)."""
    true = torch.diff(char_times, dim=1, prepend=torch.zeros_like(char_times[:, :1]))
    keep = torch.arange(durations.shape[1], device=durations.device)[None] < lengths[:, None]
    return _mean((durations - true).abs(), keep)


def duration_deviance(durations: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
    """Half the Poisson deviance a unit of predicted durations (B, U) > 0, in frames, against the differences of ends (B, U), not
    falling; lengths (B). Zero for the truth, which may be 0.

    Its gradient by the log of a duration is what is predicted too much: unlike a distance of logs, which predicts short of
    the mean, it learns durations whose sum is that of the clip.
    """
    true = torch.diff(ends, dim=1, prepend=torch.zeros_like(ends[:, :1]))
    keep = torch.arange(durations.shape[1], device=durations.device)[None] < lengths[:, None]
    durations = durations.float()
    return _mean(durations - true - torch.xlogy(true, durations / true.clamp_min(1e-6)), keep)


def code_losses(output: TalkerOutput, codes: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Cross-entropies in nats a frame, `codebook_<k>`. codes (B, T, K) the truth; lengths (B) in frames, at least 1."""
    B, T, K = codes.shape
    frames = torch.arange(T, device=codes.device)[None]
    keep = frames < lengths[:, None]
    losses = {}
    for k in range(K):
        logits = output.logits[:, :, k].flatten(0, 1).float()
        nats = F.cross_entropy(logits, codes[..., k].reshape(-1), reduction="none")
        losses[f"codebook_{k}"] = _mean(nats.view(B, T), keep)
    return losses


def talker_losses(output: TalkerOutput, codes: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """`code_losses`, and the binary cross-entropy of the stop, `stop`, in nats a clip, whose last frame is the one to stop at."""
    B, T, _ = codes.shape
    frames = torch.arange(T, device=codes.device)[None]
    keep = frames < lengths[:, None]
    losses = code_losses(output, codes, lengths)
    last = (frames == lengths[:, None] - 1).float()
    nats = F.binary_cross_entropy_with_logits(output.stop.float(), last, reduction="none")
    losses["stop"] = collectives.mean((nats * keep).sum(), torch.full((), B, device=codes.device))
    return losses
