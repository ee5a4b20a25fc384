"""Codec of waveforms: waveform -> codes -> waveform, first by spectral losses alone, then also against discriminators.

Legend: B batch, T mel frames, N samples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from muomni.batch import WaveformBatch
from muomni.evaluation.vocoder import mel_distance
from muomni.evaluation.waveform_codec import WaveformCodecEvaluator
from muomni.frontends.mel import LogMel
from muomni.losses.spectral import spectral_loss
from muomni.models import flops
from muomni.models.discriminators import Discriminators
from muomni.models.fourier_codec import FourierCodec
from muomni.models.outputs import WaveformCodecOutput
from muomni.nn.flops import Cost, product
from muomni.nn.rvq import ResidualQuantizer
from muomni.stages.adversarial import AdversarialStage
from muomni.stages.training_options import TrainingOptions


class WaveformCodecStage(AdversarialStage):
    """Spectral losses and commitment, adversarial and feature losses.

    Args:
        discriminators, adversarial_from, max_steps, discriminator_rate: see `AdversarialStage`.
        log_mel: the spectrogram of `mel`, by which the output is compared. n_ffts: resolutions of the spectral loss.
        evaluator: model, spectrogram and its metadata -> what measures it. mel: metadata of the spectrogram.
    """

    name = "codec"
    model: FourierCodec

    def __init__(
        self,
        *,
        model: FourierCodec,
        discriminators: Discriminators,
        log_mel: LogMel,
        evaluator: Callable[..., WaveformCodecEvaluator],
        n_ffts: Sequence[int],
        adversarial_from: float,
        max_steps: int,
        discriminator_rate: float,
        mel: Mapping[str, Any],
        training: TrainingOptions,
    ) -> None:
        if mel["sample_rate"] != model.sample_rate:
            raise ValueError(
                f"codec.sample_rate={model.sample_rate}: that of the data's spectrogram, {mel['sample_rate']}, is needed"
            )
        measured = evaluator(model=model, log_mel=log_mel, hop=mel["hop"], sample_rate=model.sample_rate)
        metadata = {"codec_audio": {"sample_rate": model.sample_rate, "hop": model.hop}}
        super().__init__(
            training, discriminators=discriminators, adversarial_from=adversarial_from, max_steps=max_steps,
            discriminator_rate=discriminator_rate, model=model, evaluator=measured, metadata=metadata,
        )  # fmt: skip
        self.log_mel, self.n_ffts, self._mel = log_mel, list(n_ffts), dict(mel)
        self.learned_codebooks = isinstance(model.quantizer, ResidualQuantizer)
        self.loss_names = ("mel", "spectral", "commitment", "generator", "feature", "discriminator")
        if not self.learned_codebooks:  # conf/ has a weight for it, the doctor would miss it
            self.loss_names = tuple(name for name in self.loss_names if name != "commitment")
            self.loss_weights.pop("commitment", None)

    @property
    def mel_frame_rate(self) -> float:
        return self._mel["sample_rate"] / self._mel["hop"]

    def cannot_average(self) -> str | None:
        if self.model.quantizer.decay is None:
            return None
        return (
            "stage=codec has codebooks that follow averages and are renewed, so that the entries of two steps do not "
            "correspond: average=1, or codec.decay=null"
        )

    def step(self, batch: WaveformBatch) -> dict[str, Tensor]:
        """`mel`, `spectral` and `commitment`; in training, once the discriminators join in, also theirs."""
        output: WaveformCodecOutput = self.model(batch.waveform, batch.mel_lengths * self._mel["hop"])
        with torch.autocast(self.device.type, enabled=False):
            losses = {
                "mel": mel_distance(self.log_mel, output.waveform, batch.waveform),
                "spectral": spectral_loss(output.waveform, batch.waveform, n_ffts=self.n_ffts),
            }
        if self.learned_codebooks:
            losses["commitment"] = output.commitment
        if self.training:
            losses |= self.adversarial_losses(output.waveform, batch.waveform)
        return losses

    def step_cost(self, batch: WaveformBatch) -> Cost:
        """Once the discriminators join in, with their share."""
        (B, N), (T, (frequencies, bins)) = batch.waveform.shape, (batch.mel.shape[1], self.log_mel.filters.shape)
        to_mel = product(B * T, frequencies, bins, gradients=1)  # of generated audio; of real without gradients
        cost = flops.fourier_codec(self.model, B, N) + to_mel + to_mel.frozen()
        if self.global_step >= self.adversarial_start:
            cost += flops.adversarial(self.discriminators, B, N)
        return cost
