"""Who judges speech: a recognizer trained separately, and what speaks; loaded when a split needs them.

Legend: N samples, T' code frames, K codebooks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from muomni.checkpoints.export import read_description


class Recognizer(Protocol):
    """Speech -> text (muomni/inference/asr/recognizer.py)."""

    def __call__(self, waveforms: list[Tensor]) -> list[str]:
        """Waveforms (N) -> texts."""
        ...

    def read(self, paths: list[str]) -> tuple[list[Tensor], list[str]]:
        """Files -> waveforms and texts."""
        ...

    def align(self, paths: list[str], texts: list[str]) -> list[Tensor]:
        """Files and texts -> the time of each character (C) in seconds, rising."""
        ...

    def to(self, device: torch.device) -> object:
        """Move to a device, in place."""
        ...


class SpokenText(Protocol):
    """A text as it is said, and the characters that have no words (muomni/frontends/text_normalizer.py)."""

    text: str
    left_out: str


class Voice(Protocol):
    """What speaks with the Talker (muomni/inference/tts/speaker.py)."""

    def in_words(self, text: str) -> SpokenText:
        """A written text as `say` takes it: numbers and signs in words."""
        ...

    def say(self, texts: list[str], voices: list[int]) -> tuple[list[Tensor], list[bool]]:
        """Codes (T', K) of each text, and whether the limit on frames cut it."""
        ...


class Judge:
    """A recognizer that is loaded when it is first used: training does not keep it in memory.

    Args:
        folder: the export of stage=audio, which must be there from the start. load: folder -> recognizer.
    """

    def __init__(self, folder: Path | str, *, load: Callable[[Path], Recognizer]) -> None:
        self.folder, self._load = Path(folder), load
        self._recognizer: Recognizer | None = None
        read_description(self.folder)

    def on(self, device: torch.device) -> Recognizer:
        """The recognizer, on a device."""
        if self._recognizer is None:
            self._recognizer = self._load(self.folder)
        self._recognizer.to(device)
        return self._recognizer
