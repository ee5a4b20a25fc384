"""NaN or Inf in a model's outputs is an error, never an empty transcript or silent audio.

Text generation is checked token by token by `sampling.sample_tokens`, without a device sync.
"""

from typing import Any

from torch import Tensor, nn

from muomni.inference.decoding.sampling import NOT_FINITE
from muomni.inference.errors import MuomniError


def check_finite(*tensors: Tensor) -> None:
    """Raise MuomniError if any of the tensors holds NaN or Inf. Syncs with the device."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise MuomniError(NOT_FINITE)


def register_finite_check(encoder: nn.Module) -> None:
    """Check the logits of every forward of an encoder by `check_finite`."""

    def check(module: nn.Module, arguments: Any, output: Any) -> None:
        check_finite(output.logits)

    encoder.register_forward_hook(check)
