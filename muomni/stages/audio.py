"""Audio encoder: speech -> characters by CTC."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from muomni.batch import SpeechBatch
from muomni.distributed import collectives
from muomni.evaluation.audio import AudioEvaluator
from muomni.losses.ctc import ctc_loss, frames_needed
from muomni.models.audio import Audio
from muomni.models.outputs import AudioOutput
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


class AudioStage(Stage):
    """CTC.

    Args:
        evaluator: model -> what measures it.
        mel, hearing: metadata of the spectrogram, and of how clips were prepared; None: they were not.
    """

    name = "audio"
    loss_names = ("ctc",)
    model: Audio

    def __init__(
        self,
        *,
        model: Audio,
        evaluator: Callable[..., AudioEvaluator],
        mel: Mapping[str, Any],
        training: TrainingOptions,
        hearing: Mapping[str, Any] | None = None,
    ) -> None:
        metadata = {"mel": dict(mel), "hearing": None if hearing is None else dict(hearing)}
        super().__init__(training, model=model, evaluator=evaluator(model=model), metadata=metadata)

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """CTC, in nats a character."""
        output: AudioOutput = self.model(batch.mel, batch.mel_lengths)
        known = None
        if batch.frame_counts is not None and batch.character_counts is not None and batch.frames_needed is not None:
            frames = [self.model.encoder.stem.out_lengths(count) for count in batch.frame_counts]
            known = frames, batch.character_counts, batch.frames_needed
        ctc = ctc_loss(output.logits, output.lengths, batch.characters, batch.character_lengths, known=known)
        if self.training:  # of the clips of all ranks
            short, clips = collectives.all_reduce_sum(
                torch.stack([ctc.too_short, torch.ones_like(ctc.too_short)]).sum(dim=1)
            ).unbind()
            self.log("audio/train/too_short", 100 * short / clips, batch_size=len(batch.sample_ids))
        return {"ctc": ctc.loss}

    def target_counts(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Characters of the clips that can carry theirs."""
        lengths = self.model.encoder.stem.out_lengths(batch.mel_lengths)
        fits = lengths >= frames_needed(batch.characters, batch.character_lengths)
        return {"ctc": (batch.character_lengths * fits).sum()}
