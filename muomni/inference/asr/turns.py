"""Where a speaker begins and ends, while the sound comes in.

`EnergyGate` needs nothing installed: a frame is speech if it stands out of the background, the low quantile of the last
seconds' levels. `SileroGate` is a small network (Silero VAD, MIT; pip install silero-vad), which tells speech from other sounds.

Shapes: N samples.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from muomni.inference.errors import InvalidOption

RATE = 16_000
BACKGROUND_SECONDS, QUANTILE = 5.0, 0.1
QUIETEST = -60.0  # dB of full scale: the background is taken to be at least so loud
DECIBELS = (4.0, 16.0)  # above the background, for threshold 0 and 1
START_FRAMES = 3  # of the last five must be speech: one alone is a click


class Gate(Protocol):
    """Tells frames of speech."""

    frame: int  # samples

    def __call__(self, samples: Tensor) -> bool:
        """samples (frame) in [-1, 1] at `RATE` Hz."""
        ...


class EnergyGate:
    """threshold: 0 to 1, as in OpenAI's server_vad."""

    frame = RATE // 50

    def __init__(self, *, threshold: float) -> None:
        self.decibels = DECIBELS[0] + threshold * (DECIBELS[1] - DECIBELS[0])
        self.levels: deque[float] = deque(maxlen=round(BACKGROUND_SECONDS * RATE / self.frame))

    def __call__(self, samples: Tensor) -> bool:
        level = 10 * math.log10(float(samples.numpy().var()) + 1e-12)
        self.levels.append(level)
        background = max(QUIETEST, sorted(self.levels)[int(QUANTILE * len(self.levels))])
        if len(self.levels) < self.levels.maxlen // 10:  # type: ignore[operator]
            background = min(background, QUIETEST + self.decibels)  # who speaks at once is no background
        return level > background + self.decibels


class SileroGate:
    """threshold: least probability of speech. Raises InvalidOption if silero-vad is not installed."""

    frame = 512

    def __init__(self, *, threshold: float) -> None:
        try:
            from silero_vad import load_silero_vad
        except ImportError as error:
            raise InvalidOption("vad=silero needs silero-vad: pip install silero-vad", param="vad") from error
        self.model, self.threshold = load_silero_vad(), threshold

    @torch.inference_mode()
    def __call__(self, samples: Tensor) -> bool:
        return float(self.model(samples, RATE)) >= self.threshold


GATES: dict[str, Callable[..., Gate]] = {"energy": EnergyGate, "silero": SileroGate}


@dataclass(frozen=True, slots=True)
class Turn:
    """A border of a turn. sample: where, counted from the first sample pushed; the start has the padding before it."""

    event: Literal["started", "stopped"]
    sample: int


class TurnDetector:
    """Samples in, borders of turns out. Milliseconds as in OpenAI's server_vad: `silence` ends a turn, `padding` is kept
    before its first sound."""

    def __init__(self, gate: Gate, *, silence: int, padding: int) -> None:
        self.gate, self.silence, self.padding = gate, silence * RATE // 1000, padding * RATE // 1000
        self.pending = torch.zeros(0)
        self.position = 0  # samples that the gate has seen
        self.recent: deque[bool] = deque(maxlen=5)
        self.speaking = False
        self.last_speech = 0

    def push(self, samples: Tensor) -> Iterator[Turn]:
        """samples (N) at `RATE` Hz; any number of them."""
        self.pending = torch.cat([self.pending, samples])
        while len(self.pending) >= self.gate.frame:
            frame, self.pending = self.pending[: self.gate.frame], self.pending[self.gate.frame :]
            speech = self.gate(frame)
            self.recent.append(speech)
            self.position += self.gate.frame
            if speech:
                self.last_speech = self.position
            if not self.speaking and sum(self.recent) >= START_FRAMES:
                self.speaking = True
                begin = self.position - len(self.recent) * self.gate.frame
                yield Turn("started", max(0, begin - self.padding))
            elif self.speaking and self.position - self.last_speech >= self.silence:
                self.speaking = False
                self.recent.clear()
                yield Turn("stopped", self.position)

    def reset(self) -> None:
        """The turn has ended by other means."""
        self.speaking = False
        self.recent.clear()
