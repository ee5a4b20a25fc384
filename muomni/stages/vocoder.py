"""Vocoder: log-mel -> waveform, first by spectral losses alone, then against discriminators.

Legend: B batch, T frames, M mel bins, N samples.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from muomni.batch import WaveformBatch
from muomni.checkpoints.export import Export, check_same
from muomni.distributed import collectives
from muomni.evaluation.vocoder import VocoderEvaluator, mel_distance
from muomni.frontends.mel import LogMel
from muomni.losses.spectral import spectral_loss
from muomni.models import flops
from muomni.models.codec import Codec
from muomni.models.discriminators import Discriminators
from muomni.models.outputs import VocoderOutput
from muomni.models.vocoder import Vocoder
from muomni.nn.flops import Cost, product
from muomni.stages.adversarial import AdversarialStage
from muomni.stages.training_options import TrainingOptions

#: waveform (B, N), mel (B, T, M), iterations -> waveform (B, N) whose mel is nearer to that one (tts/mel_correction.py).
Correction = Callable[..., Tensor]


class VocoderStage(AdversarialStage):
    """Spectral, adversarial and feature losses.

    Args:
        discriminators, adversarial_from, max_steps, discriminator_rate: see `AdversarialStage`.
        correction: mel correction, which its output always passes.
        corrections, corrections_in_training: iterations of the correction.
        log_mel: the spectrogram of `mel`.
        codec: the export of stage=codec, frozen, whose mels the vocoder learns to synthesise too, or None.
        evaluator: model, `synthesize`, `codec`, and the spectrogram -> what measures them.
        n_ffts: resolutions of the spectral loss. mel: metadata of the spectrogram.
    """

    name = "vocoder"
    loss_names = ("mel", "spectral", "generator", "feature", "discriminator")
    model: Vocoder

    def __init__(
        self,
        *,
        model: Vocoder,
        discriminators: Discriminators,
        correction: Correction,
        corrections: int,
        corrections_in_training: int,
        log_mel: LogMel,
        codec: Export | None,
        evaluator: Callable[..., VocoderEvaluator],
        n_ffts: Sequence[int],
        adversarial_from: float,
        max_steps: int,
        discriminator_rate: float,
        mel: Mapping[str, Any],
        training: TrainingOptions,
    ) -> None:
        frozen = None
        if codec is not None:
            check_same(codec.metadata, {"mel": dict(mel)}, where=str(codec.folder))
            frozen = cast("Codec", codec.modules["codec"])
        measured = evaluator(
            model=model, synthesize=partial(self.synthesize, corrections=corrections), codec=frozen, log_mel=log_mel,
            hop=mel["hop"], sample_rate=mel["sample_rate"],
        )  # fmt: skip
        metadata = {"codec_mel": dict(mel), "corrections": corrections}
        super().__init__(
            training, discriminators=discriminators, adversarial_from=adversarial_from, max_steps=max_steps,
            discriminator_rate=discriminator_rate, model=model, evaluator=measured, metadata=metadata,
        )  # fmt: skip
        self.codec, self.correction, self.log_mel = frozen, correction, log_mel
        if frozen is not None:
            self.keep_frozen(frozen)
        self.corrections_in_training = corrections_in_training
        self.n_ffts = list(n_ffts)

    def compiled_modules(self) -> list[nn.Module]:
        return list(self.model.backbone.blocks)

    def step(self, batch: WaveformBatch) -> dict[str, Tensor]:
        """`mel` and `spectral`; in training, once the discriminators join in, also `generator`, `feature`, `discriminator`."""
        fake = self.synthesize(self._input_mel(batch), corrections=self.corrections_in_training)
        with torch.autocast(self.device.type, enabled=False):
            losses = {
                "mel": mel_distance(self.log_mel, fake, batch.waveform),
                "spectral": spectral_loss(fake, batch.waveform, n_ffts=self.n_ffts),
            }
        if self.training:
            losses |= self.adversarial_losses(fake, batch.waveform)
        return losses

    def synthesize(self, mel: Tensor, *, corrections: int) -> Tensor:
        """mel (B, T, M) -> waveform (B, N), corrected."""
        output: VocoderOutput = self.model(mel)
        with torch.autocast(self.device.type, enabled=False):
            return self.correction(output.waveform, mel, iterations=corrections)

    def step_cost(self, batch: WaveformBatch) -> Cost:
        """Once the discriminators join in, with their share."""
        (B, T, _), (frequencies, bins) = batch.mel.shape, self.log_mel.filters.shape
        cost = flops.convnext_stack(self.model.backbone, B, T, input_grad=False)
        if self.codec is not None and batch.any_through_codec:
            cost += flops.codec(self.codec, B, T).frozen()
        to_mel = product(B * T, frequencies, bins, gradients=1)  # of generated audio; of real without gradients
        cost += to_mel + to_mel.frozen()
        correction = product(B * (T + 1), frequencies, bins, gradients=1)  # to mels and back to gains
        cost += correction.times(2 * self.corrections_in_training)
        if self.global_step >= self.adversarial_start:
            cost += flops.adversarial(self.discriminators, *batch.waveform.shape)
        return cost

    def _input_mel(self, batch: WaveformBatch) -> Tensor:
        """Mels of the recordings, or what the codec makes of them."""
        wanted = batch.any_through_codec
        if self.codec is None or not (bool(batch.through_codec.any()) if wanted is None else wanted):
            return batch.mel
        with torch.no_grad(), collectives.synced_step(False):  # another rank may have no such piece
            rebuilt = self.codec(batch.mel, batch.mel_lengths).mel.float()
        return torch.where(batch.through_codec[:, None, None], rebuilt, batch.mel)
