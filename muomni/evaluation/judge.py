"""Who judges speech: a recognizer trained separately, loaded when a split needs it."""

from collections.abc import Callable
from pathlib import Path

import torch

from muomni.checkpoints.export import read_description
from muomni.frontends.text_normalizer import LETTERS, normalize_text
from muomni.inference.asr.recognizer import Recognizer


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

    def in_words(self, text: str) -> str:
        """A text as it is compared with what the recognizer writes: in its characters, numbers and signs in words unless it has
        digits of its own. After the first `on`."""
        assert self._recognizer is not None
        return normalize_text(text, self._recognizer.audio.characters or LETTERS).text
