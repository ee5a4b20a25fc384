"""Numbers of a model that are not finite are an error: never an empty transcript, or a sound of nothing.

Of answers in text `sampling.choose` sees to it, token by token, without waiting for the device.
"""

from typing import Any

from torch import Tensor, nn

from muomni.inference.decoding.sampling import NOT_FINITE


def check_finite(*tensors: Tensor) -> None:
    """Raise ValueError where any of the tensors holds NaN or Inf. Waits for the device."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError(NOT_FINITE)


def watch(encoder: nn.Module) -> None:
    """Look at the logits of every forward of an encoder."""

    def look(module: nn.Module, arguments: Any, output: Any) -> None:
        check_finite(output.logits)

    encoder.register_forward_hook(look)
