"""How natural speech sounds: the mean opinion score (1 to 5) that DistillMOS predicts, without a reference.

Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality Assessment"
(arXiv:2502.05356). The weights are in its package. Trained on people's and machines' speech of many corpora: the formant voices
of the embedded world are far from it, so that what counts there is the difference to the recordings.

Legend: N samples.
"""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from muomni.evaluation.whisper import RATE
from muomni.frontends.audio_io import resample

INSTALL = "pip install 'muomni[naturalness]'"


def has_distillmos() -> bool:
    """Whether its package is installed."""
    return importlib.util.find_spec("distillmos") is not None


class Naturalness:
    """DistillMOS, loaded when it is first used. sample_rate: of the waveforms, in Hz."""

    def __init__(self, *, sample_rate: int) -> None:
        if not has_distillmos():
            raise ValueError(f"naturalness is measured by distillmos, which is not installed: {INSTALL}")
        self.sample_rate = sample_rate
        self._model: Any = None

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[Tensor]) -> list[float | None]:
        """waveforms (N_i), mono -> their scores; None for a waveform without samples, or not finite."""
        return [self._score(waveform) for waveform in waveforms]

    def _score(self, waveform: Tensor) -> float | None:
        if not len(waveform) or not bool(torch.isfinite(waveform).all()):
            return None
        audio = resample(waveform.detach().float().cpu(), self.sample_rate, RATE)
        if self._model is None:
            from distillmos import ConvTransformerSQAModel

            with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
                self._model = ConvTransformerSQAModel().eval()
        return float(self._model(audio[None]))
