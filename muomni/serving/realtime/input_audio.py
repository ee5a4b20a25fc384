"""The sound that a client appends: kept until its turn ends, no longer than needed.

Shapes: N samples.
"""

from collections.abc import Iterator

import torch
import torchaudio
from torch import Tensor

from muomni.serving.errors import refused
from muomni.serving.realtime.schema import AudioInput
from muomni.serving.realtime.turns import GATES, RATE, Turn, TurnDetector

MOST_SECONDS = 120.0  # of a turn


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
        self.blocks: list[Tensor] = []
        self.first = 0  # number of the buffer's first sample, counted from the session's start
        self.length = 0

    def append(self, samples: Tensor) -> Iterator[tuple[Turn, int]]:
        """samples (N) -> borders of turns, with their milliseconds from the session's start. Raises ApiError for a turn that does
        not end."""
        self.blocks.append(samples)
        self.length += len(samples)
        if self.detector is None:
            self._check_length()
            return
        for turn in self.detector.push(torchaudio.functional.resample(samples, self.rate, RATE)):
            yield turn, 1000 * turn.sample // RATE
        if self.detector.speaking:
            self._check_length()
        else:
            self._forget(keep=self.detector.padding * self.rate // RATE + self.rate)

    def take(self, turn: Turn | None = None) -> Tensor:
        """The turn's samples (N): from `started` on, or everything. The buffer is empty then."""
        whole = torch.cat(self.blocks) if self.blocks else torch.zeros(0)
        begin = 0 if turn is None else max(0, turn.sample * self.rate // RATE - self.first)
        self.clear()
        return whole[begin:]

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
