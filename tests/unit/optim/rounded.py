"""A device that rounds the factors of matrix products, on the CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Rounded(TorchDispatchMode):
    """Factors of matrix products keep `bits` of their 23 bits of mantissa: 10 are TF32, 7 are bfloat16."""

    def __init__(self, bits):
        super().__init__()
        self.bits, self.products = bits, 0

    def round(self, x):
        bits, cut = x.contiguous().view(torch.int32), 23 - self.bits
        return ((bits + (1 << (cut - 1))) & ~((1 << cut) - 1)).view(torch.float32)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        first = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}.get(name)
        if first is not None:
            args = (*args[:first], *(self.round(x) for x in args[first : first + 2]), *args[first + 2 :])
            self.products += 1
        return function(*args, **(kwargs or {}))
