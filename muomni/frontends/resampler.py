"""Resampling of a waveform that arrives piece by piece.

Shapes: N samples.
"""

from fractions import Fraction

import torch
import torchaudio
from torch import Tensor

FILTER_WIDTH = 6  # zero crossings of torchaudio's resampling filter on each side: its default


class Resampler:
    """`torchaudio.functional.resample` in float64 as a stream: chunks (N) in, chunks out; joined they are the whole at once."""

    def __init__(self, rate: int, target: int) -> None:
        ratio = Fraction(rate, target)
        self.step, self.out = ratio.numerator, ratio.denominator  # so many samples in are so many out
        # Its filter is computed once; of this dtype, it is that of the function. In float32 the length of a chunk would decide
        # the order of the sums, and so now and then a 16-bit sample.
        self.resample = torchaudio.transforms.Resample(
            self.step, self.out, lowpass_filter_width=FILTER_WIDTH, dtype=torch.float64
        )
        reach = (
            -(-FILTER_WIDTH * self.step // min(self.step, self.out)) + 1
        )  # samples on each side, at least the filter's
        self.reach = -(-reach // self.step)  # in steps, as the next one
        self.done = 0
        self.input, self.dropped, self.received = (
            torch.zeros(0),
            0,
            0,
        )  # samples kept, steps before them, samples in all

    def push(self, chunk: Tensor) -> Tensor:
        """Append samples; returns those of the output that no later one changes."""
        self.received += len(chunk)
        self.input = torch.cat([self.input, chunk.float()])
        ready = self.received // self.step - self.reach
        return self._steps(ready, self.out * ready) if ready > self.done else torch.zeros(0)

    def close(self) -> Tensor:
        """The rest: ceil(N x target / rate) samples in all."""
        total = -(-self.received * self.out // self.step)
        return self._steps(-(-self.received // self.step), total) if self.received else torch.zeros(0)

    def _steps(self, ready: int, total: int) -> Tensor:
        """The output of steps done..ready, at most to sample `total`."""
        resampled = self.resample(self.input.double())
        result = resampled[(self.done - self.dropped) * self.out : total - self.dropped * self.out].float()
        self.done, before = ready, self.dropped
        self.dropped = max(before, ready - self.reach)
        self.input = self.input[(self.dropped - before) * self.step :].clone()
        return result
