"""Faster or slower speech of the same pitch, as a stream: WSOLA (Verhelst and Roelands 1993).

Frames of 30 ms are taken from the input at `speed` times the distance at which they are added to the output. Each is moved by up
to 10 ms to where it fits best to what follows the frame before it in the input, so that the periods of a voice stay in phase.

What comes out does not depend on how the input is cut into chunks.

Shapes: N samples, L samples of a frame, S shifts.
"""

import torch
from torch import Tensor

FRAME_SECONDS, SHIFT_SECONDS = 0.03, 0.01


class TimeStretch:
    """Chunks (N) in, chunks out; in all round(N / speed) samples. speed: above 1 is faster."""

    def __init__(self, speed: float, rate: int) -> None:
        self.speed = speed
        self.hop = max(1, round(FRAME_SECONDS * rate / 2))  # between frames of the output
        self.shift = round(SHIFT_SECONDS * rate)
        self.window = torch.hann_window(2 * self.hop)
        self.input, self.dropped, self.received = torch.zeros(0), 0, 0  # samples kept, before them, in all
        self.frame = 0  # frames taken
        self.last = 0  # where the last one began
        self.fading = torch.zeros(self.hop)  # its second half
        self.written = 0

    def push(self, chunk: Tensor) -> Tensor:
        """Append samples; returns those of the output that are certain."""
        self.input = torch.cat([self.input, chunk.float()])
        self.received += len(chunk)
        return self._frames(self.received)

    def close(self) -> Tensor:
        """The rest."""
        total = round(self.received / self.speed)
        beyond = 4 * self.hop + self.shift + self.received  # zeros, as far as the last frame may reach
        self.input = torch.cat([self.input, self.input.new_zeros(beyond)])
        written = self.written
        out = self._frames(self.received + beyond, total=total)
        return out[: total - written]

    def _frames(self, known: int, *, total: int | None = None) -> Tensor:
        pieces: list[Tensor] = []
        while total is None or self.written < total:
            target = round(self.frame * self.hop * self.speed)
            natural = self.last + self.hop
            if max(target + self.shift, natural) + 2 * self.hop > known:
                break
            if total is None and (self.written + self.hop) * self.speed > known:  # it may be beyond the end
                break
            begin = self._best(target, natural) if self.frame else 0
            frame = self._samples(begin, 2 * self.hop) * self.window
            if not self.frame:
                frame[: self.hop] = self._samples(0, self.hop)  # nothing is faded into the first one
            pieces.append(self.fading + frame[: self.hop])
            self.fading, self.last = frame[self.hop :], begin
            self.frame += 1
            self.written += self.hop
            self._drop()
        return torch.cat(pieces) if pieces else torch.zeros(0)

    def _best(self, target: int, natural: int) -> int:
        """Of the positions around the target the one whose frame is most like the one that follows naturally."""
        first = max(0, target - self.shift)
        span = self._samples(first, target + self.shift - first + 2 * self.hop)
        frames = span.unfold(0, 2 * self.hop, 1)  # S L
        wanted = self._samples(natural, 2 * self.hop)
        likeness = (frames @ wanted) / frames.square().sum(1).sqrt().clamp_min(1e-6)
        return first + int(likeness.argmax())

    def _samples(self, begin: int, count: int) -> Tensor:
        return self.input[begin - self.dropped : begin - self.dropped + count]

    def _drop(self) -> None:
        """Forget what no later frame can need."""
        needed = min(self.last + self.hop, max(0, round(self.frame * self.hop * self.speed) - self.shift))
        if needed - self.dropped > 20 * self.hop:
            self.input, self.dropped = self.input[needed - self.dropped :].clone(), needed
