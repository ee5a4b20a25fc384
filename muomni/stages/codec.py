"""Codec: log-mel -> codes -> log-mel."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from muomni.batch import SpeechBatch
from muomni.evaluation.codec import CodecEvaluator
from muomni.losses.codec import masked_l1, masked_l2
from muomni.models import flops
from muomni.models.codec import Codec
from muomni.models.outputs import CodecOutput
from muomni.nn.conv import frame_mask
from muomni.nn.flops import Cost
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


class CodecStage(Stage):
    """Reconstruction and commitment.

    Args:
        evaluator: model, and `sample_rate` -> what measures it. mel: metadata of the spectrogram.
    """

    name = "codec"
    loss_names = ("l1", "l2", "commitment")
    model: Codec

    def __init__(
        self,
        *,
        model: Codec,
        evaluator: Callable[..., CodecEvaluator],
        mel: Mapping[str, Any],
        training: TrainingOptions,
    ) -> None:
        measured = evaluator(model=model, sample_rate=mel["sample_rate"])
        super().__init__(training, model=model, evaluator=measured, metadata={"mel": dict(mel)})

    def cannot_average(self) -> str | None:
        if self.model.quantizer.decay is None:
            return None
        return (
            "stage=codec has codebooks that follow averages and are renewed, so that the entries of two steps do not "
            "correspond: average=1, or backbone.codec.decay=null"
        )

    def compiled_modules(self) -> list[nn.Module]:
        """Encoder and decoder; the quantiser between them looks at its averages."""
        return [self.model.encoder, self.model.decoder]

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """L1 and L2 of the log-mel, and commitment."""
        output: CodecOutput = self.model(batch.mel, batch.mel_lengths)
        keep = frame_mask(batch.mel_lengths, batch.mel.shape[1])
        return {
            "l1": masked_l1(output.mel, batch.mel, keep),
            "l2": masked_l2(output.mel, batch.mel, keep),
            "commitment": output.commitment,
        }

    def step_cost(self, batch: SpeechBatch) -> Cost:
        B, T, _ = batch.mel.shape
        return flops.codec(self.model, B, T)

    def target_counts(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Mel frames; rows of codes."""
        frames = batch.mel_lengths.sum()
        return {"l1": frames, "l2": frames, "commitment": self.model.code_lengths(batch.mel_lengths).sum()}
