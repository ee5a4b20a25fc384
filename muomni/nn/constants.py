"""Constant tensors outside of modules: windows, filter banks.

A module's buffers move with it; other code would copy such tensors to the device at every call, and wait for it.
"""

import torch
from torch import Tensor


class Constants:
    """Tensors, and their copies on each device that needed them."""

    def __init__(self, *tensors: Tensor) -> None:
        self._on = {tensors[0].device: tensors}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """All of them on a device; the first call copies."""
        if device not in self._on:
            with torch.inference_mode(False):  # a validation may be first, and training then needs them in its graph
                self._on[device] = tuple(tensor.to(device) for tensor in next(iter(self._on.values())))
        return self._on[device]
