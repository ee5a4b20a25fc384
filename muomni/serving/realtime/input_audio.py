"""The sound that a client appends: kept until its turn ends, no longer than needed.

Shapes: N samples.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from muomni.frontends.resampler import Resampler
from muomni.inference.asr.turns import GATES, RATE, Turn, TurnDetector
from muomni.serving.errors import refused
from muomni.serving.realtime.schema import AudioInput

MOST_SECONDS = 120.0  # of a turn
BLOCK_SECONDS = 0.1  # that are searched for borders at once, however much a client appends


class InputAudio:
    """A buffer at the client's rate, with the turns that a detector finds in it."""

    def __init__(self, options: AudioInput, *, gate: str) -> None:
        self.rate = options.format.rate
        detection = options.turn_detection
        self.detector = None
        if detection is not None:
            self.detector = TurnDetector(
                GATES[gate](threshold=detection.threshold),
                silence=detection.silence_duration_ms,
                padding=detection.prefix_padding_ms,
            )
        self.resampler = (
            None if self.rate == RATE else Resampler(self.rate, RATE)
        )  # one by one, blocks would gain samples
        self.blocks: list[Tensor] = []
        self.first = 0  # number of the buffer's first sample, counted from the session's start
        self.length = 0

    def append(self, samples: Tensor) -> Iterator[tuple[Turn, int]]:
        """samples (N) -> borders of turns, with their milliseconds from the session's start. Raises ApiError for a turn that does
        not end."""
        for block in samples.split(round(BLOCK_SECONDS * self.rate)):
            self.blocks.append(block)
            self.length += len(block)
            if self.detector is None:
                self._check_length()
                continue
            for turn in self.detector.push(block if self.resampler is None else self.resampler.push(block)):
                yield turn, 1000 * turn.sample // RATE
            if self.detector.speaking:
                self._check_length()
            else:
                self._forget(keep=self.detector.padding * self.rate // RATE + self.rate)

    def take(self, started: Turn | None = None, stopped: Turn | None = None) -> Tensor:
        """The samples (N) between two borders, or everything. What follows them is kept for the next turn."""
        whole = torch.cat(self.blocks) if self.blocks else torch.zeros(0)
        begin = 0 if started is None else self.number(started) - self.first
        end = len(whole) if stopped is None else self.number(stopped) - self.first
        self.clear()
        if len(rest := whole[end:]):
            self.blocks, self.length, self.first = [rest], len(rest), self.first - len(rest)
        return whole[begin:end]

    def number(self, border: Turn) -> int:
        """A border's sample at the client's rate, counted from the session's start; the buffer's first if it was forgotten."""
        return max(self.first, border.sample * self.rate // RATE)

    def heard(self, begin: int) -> Tensor:
        """The samples (N) from number `begin` that were searched for borders: no later border comes before their end."""
        end = self.first + self.length if self.detector is None else self.detector.position * self.rate // RATE
        blocks: list[Tensor] = []
        first = self.first + self.length  # of the blocks
        for block in reversed(self.blocks):
            if first <= begin:
                break
            blocks.insert(0, block)
            first -= len(block)
        return torch.cat(blocks)[begin - first : max(begin, end) - first] if blocks else torch.zeros(0)

    def clear(self) -> None:
        """Forget everything."""
        self.first += self.length
        self.blocks, self.length = [], 0
        if self.detector is not None:
            self.detector.reset()

    def _forget(self, *, keep: int) -> None:
        while self.blocks and self.length - len(self.blocks[0]) >= keep:
            dropped = len(self.blocks.pop(0))
            self.first, self.length = self.first + dropped, self.length - dropped

    def _check_length(self) -> None:
        if self.length > MOST_SECONDS * self.rate:
            self.clear()
            raise refused("audio", f"a turn of more than {MOST_SECONDS:g} s: the buffer was cleared; commit earlier")
