"""Resampling of a waveform that arrives piece by piece.

torchaudio resamples a whole waveform only, and another library's stream has another filter than the recordings of training had.
Its filter is used here where it is not zero: it is stored as `step` samples and more for each output, of which a few count.

Shapes: N samples; the L weights of each of a step's outputs; outputs in G groups of P, each with a window of W samples.
"""

import functools
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

FILTER_WIDTH = 6  # zero crossings of torchaudio's resampling filter on each side: its default
SMALLEST = 1e-20  # a weight below is a zero that was rounded
CALL = 300  # multiplications that take as long as the call for a group's product


class Filter(NamedTuple):
    """weights (G, W, P) float64; begin: the first sample of a step's first window, relative to the step's; stride: samples from
    each window to the next."""

    weights: Tensor
    begin: int
    stride: int


@functools.lru_cache(maxsize=8)  # it takes longer to make than to apply to seconds of sound
def make_filter(step: int, out: int) -> Filter:
    """torchaudio's filter from `step` samples to `out`, in the groups that take the fewest multiplications."""
    # In float32 the length of a chunk would decide the order of the sums, and so now and then a 16-bit sample.
    whole = torchaudio.transforms.Resample(step, out, lowpass_filter_width=FILTER_WIDTH, dtype=torch.float64)
    kernel = whole.kernel[:, 0]  # out L
    length = kernel.shape[1]
    used = kernel.abs() > SMALLEST
    first, end = used.int().argmax(1), length - used.flip(1).int().argmax(1)  # of each output
    found: list[tuple[int, int, int, int]] = []
    for G in (count for count in range(1, out + 1) if out % count == 0):
        starts = torch.arange(G) * (step // G)
        begin = int((first.view(G, -1).amin(1) - starts).min())
        width = int((end.view(G, -1).amax(1) - starts).max()) - begin
        found.append((out * width + CALL * G, G, begin, width))
    _, G, begin, width = min(found)
    stride, padded = step // G, F.pad(kernel, (length, length))  # beyond the filter are zeros
    rows = [padded.view(G, out // G, -1)[g, :, length + begin + g * stride :][:, :width].T for g in range(G)]
    return Filter(torch.stack(rows).contiguous(), begin - whole.width, stride)


class Resampler:
    """`torchaudio.functional.resample` in float64 as a stream: chunks (N) in, chunks out; joined they are the whole at once."""

    def __init__(self, rate: int, target: int) -> None:
        ratio = Fraction(rate, target)
        self.step, self.out = ratio.numerator, ratio.denominator  # so many samples in are so many out
        self.weights, begin, self.stride = make_filter(self.step, self.out)
        groups, width, _ = self.weights.shape
        self.reach = (groups - 1) * self.stride + width  # samples from a step's first to its last
        self.done = self.received = 0  # steps, samples
        # From the first sample of the next step on, which comes before the waveform's: zeros.
        self.input = torch.zeros(-begin, dtype=torch.float64)

    def push(self, chunk: Tensor) -> Tensor:
        """Append samples; returns those of the output that no later one changes."""
        self.received += len(chunk)
        self.input = torch.cat((self.input, chunk.double()))
        return self._steps((len(self.input) - self.reach) // self.step + 1)

    def close(self) -> Tensor:
        """The rest: ceil(N x target / rate) samples in all."""
        steps = -(-self.received // self.step) - self.done
        total = -(-self.received * self.out // self.step) - self.done * self.out
        missing = self.reach + steps * self.step - len(self.input)
        self.input = torch.cat((self.input, self.input.new_zeros(max(0, missing))))
        return self._steps(steps)[: max(0, total)]

    def _steps(self, count: int) -> Tensor:
        """The output of the next steps."""
        if count < 1:
            return torch.zeros(0)
        groups, width, _ = self.weights.shape
        windows = self.input.as_strided((groups, count, width), (self.stride, self.step, 1))
        result = torch.bmm(windows, self.weights).transpose(0, 1)
        self.done, self.input = self.done + count, self.input[count * self.step :]
        return result.to(torch.float32, memory_format=torch.contiguous_format).view(-1)
