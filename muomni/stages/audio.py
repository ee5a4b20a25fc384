"""Audio encoder: speech -> characters by CTC."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from muomni.batch import SpeechBatch
from muomni.distributed import collectives
from muomni.evaluation.audio import AudioEvaluator
from muomni.losses.ctc import CTCLoss, consistency_loss, ctc_loss, frames_needed
from muomni.models import flops
from muomni.models.audio import Audio
from muomni.models.encoders import AudioEncoder
from muomni.models.outputs import AudioOutput
from muomni.nn.flops import Cost
from muomni.stages.base import Stage
from muomni.stages.encoder_rate import WHOLE, EncoderRate
from muomni.stages.training_options import TrainingOptions


class AudioStage(EncoderRate, Stage):
    """CTC; of intermediate blocks too, and with a loss of the consistency of two views where the data has them
    (datamodules/spec_augment.py).

    Args:
        evaluator: model -> what measures it.
        intermediate: numbers of blocks, from 1, after which the head writes as well while it learns (InterCTC, Lee & Watanabe
            2021, arXiv:2102.03216). Nothing of it is left in the export.
        lr_multipliers: see `EncoderRate`.
        mel, hearing: metadata of the spectrogram, and of how clips were prepared; None: they were not.
    """

    name = "audio"
    loss_names = ("ctc", "intermediate", "consistency")
    smooths_labels = True
    model: AudioEncoder

    def __init__(
        self,
        *,
        model: AudioEncoder,
        evaluator: Callable[..., AudioEvaluator],
        mel: Mapping[str, Any],
        training: TrainingOptions,
        hearing: Mapping[str, Any] | None = None,
        intermediate: Sequence[int] = (),
        lr_multipliers: Mapping[str, float] = WHOLE,
    ) -> None:
        if intermediate and not isinstance(model, Audio):
            raise ValueError("module.intermediate: an encoder of transformers writes after its last block alone: []")
        blocks = len(model.encoder.transformer.blocks) if isinstance(model, Audio) else 1
        if not all(0 < block < blocks for block in intermediate):
            raise ValueError(
                f"module.intermediate={list(intermediate)}: numbers of blocks before the last are needed, 1 to {blocks - 1}"
            )
        self.intermediate = tuple(intermediate)
        metadata = {"mel": dict(mel), "hearing": None if hearing is None else dict(hearing)}
        super().__init__(training, model=model, evaluator=evaluator(model=model), metadata=metadata)
        self.rate_encoder(model.encoder, lr_multipliers)

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Nats a character. On held-out data CTC alone, so that runs with other losses can be compared."""
        after = self.intermediate if self.training else ()
        output: AudioOutput = self.model(batch.mel, batch.mel_lengths, after_blocks=after)
        ctc = self._ctc(output.logits, output.lengths, batch)
        losses = {"ctc": ctc.loss}
        if output.intermediate:
            each = [self._ctc(logits, output.lengths, batch).loss for logits in output.intermediate]
            losses["intermediate"] = torch.stack(each).mean()
        if batch.views == 2:
            losses["consistency"] = consistency_loss(output.logits, output.lengths, batch.character_lengths)
        if self.training:  # of the clips of all ranks
            short, clips = collectives.all_reduce_sum(
                torch.stack([ctc.too_short, torch.ones_like(ctc.too_short)]).sum(dim=1)
            ).unbind()
            self.log("audio/train/too_short", 100 * short / clips, batch_size=len(batch.sample_ids))
        return losses

    def step_cost(self, batch: SpeechBatch) -> Cost:
        B, T, _ = batch.mel.shape
        return flops.audio(self.model, B, T, readings=1 + len(self.intermediate))

    def _ctc(self, logits: Tensor, lengths: Tensor, batch: SpeechBatch) -> CTCLoss:
        known = None
        if batch.frame_counts is not None and batch.character_counts is not None and batch.frames_needed is not None:
            frames = [self.model.out_lengths(count) for count in batch.frame_counts]
            known = frames, batch.character_counts, batch.frames_needed
        targets = batch.characters, batch.character_lengths
        return ctc_loss(logits, lengths, *targets, known=known, label_smoothing=self.smoothing)

    def target_counts(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Characters of the clips that can carry theirs; of all clips for the consistency."""
        lengths = self.model.out_lengths(batch.mel_lengths)
        fits = lengths >= frames_needed(batch.characters, batch.character_lengths)
        read, all_of_them = (batch.character_lengths * fits).sum(), batch.character_lengths.sum()
        return {"ctc": read, "intermediate": read, "consistency": all_of_them}
