"""A kernel of ours and peers that do the same, ready to be timed on the same inputs; and inputs that several rows share.

Legend: N samples.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Call = Callable[[], Any]
#: What each optional peer is installed by.
INSTALL = {
    "transformers": "pip install transformers",
    "vector_quantize_pytorch": "pip install vector-quantize-pytorch",
    "flashlight": "pip install flashlight-text",
}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """case: shapes, in words. ours, peers: calls on the same inputs. units: what one call does so many times; milliseconds are
    of one. absent: peers that are not there, and why. difference: our result and a peer's -> a number, at most `tolerance`; None:
    they are other networks of the same shape. flops: of matrix products, in bfloat16 where that is fast if `autocast`. read:
    bytes that must be moved. aim: times the strongest peer."""

    case: str
    ours: Call
    peers: Mapping[str, Call]
    absent: Mapping[str, str] = field(default_factory=dict)
    units: int = 1
    difference: Callable[[Any, Any], float] | None = None
    tolerance: float = 0.0
    flops: int = 0
    autocast: bool = False
    read: int = 0
    aim: float = 1.0


def missing(module: str) -> str:
    """How to install a peer that is not there, or nothing."""
    return "" if importlib.util.find_spec(module) else f"not installed: {INSTALL[module]}"


def count_flops(call: Call) -> int:
    """Operations of the matrix products and convolutions of a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def inference(call: Callable[..., Any], *arguments: Any) -> Call:
    """A call that records no gradients."""

    def run() -> Any:
        with torch.inference_mode():
            return call(*arguments)

    return run


def largest_difference(ours: Tensor, peers: Tensor) -> float:
    """Of two tensors of the same shape."""
    assert ours.shape == peers.shape, f"results of {tuple(ours.shape)} and {tuple(peers.shape)}"
    return (ours - peers).abs().max().item()


def share_unequal(ours: Tensor, peers: Tensor) -> float:
    """Of whole numbers."""
    assert ours.shape == peers.shape, f"results of {tuple(ours.shape)} and {tuple(peers.shape)}"
    return (ours != peers).float().mean().item()


def voices(rows: int, seconds: float, rate: int) -> Tensor:
    """(rows, N) of voiced sound at `rate` Hz: harmonics of a pitch that glides, in syllables, and some noise."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(round(seconds * rate)) / rate
    base = 90 + 120 * torch.rand(rows, 1, generator=generator)
    phase = 2 * torch.pi * (base * time + 3 * torch.sin(2 * torch.pi * 1.3 * time))
    tone = sum((torch.sin(k * phase) / k for k in range(1, 30)), start=torch.zeros_like(phase))
    syllables = torch.sin(2 * torch.pi * 2.1 * time).clamp_min(0)
    return 0.15 * tone * syllables + 0.003 * torch.randn(rows, len(time), generator=generator)
