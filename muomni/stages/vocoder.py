"""Vocoder: log-mel -> waveform, first by spectral losses alone, then against discriminators.

Generator and discriminators train in one step of one optimizer, by one backward: the discriminators get generated audio
detached from the generator, the generator gets copies of the discriminators that learn nothing. Each parameter gets the
gradient that it would get in turns (of the weights before the step), is clipped with its own side alone, and all that holds for
other stages holds here: accumulation, guards, precision, schedule, exact resume. Manual optimisation would lose most of them.
Until they join in, the discriminators have no gradients: zeros would count as steps of their moments.

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
from muomni.losses.adversarial import discriminator_loss, feature_loss, generator_loss
from muomni.losses.spectral import spectral_loss
from muomni.models import flops
from muomni.models.codec import Codec
from muomni.models.discriminators import Discriminators
from muomni.models.outputs import VocoderOutput
from muomni.models.vocoder import Vocoder
from muomni.nn.flops import Cost, product
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions

#: waveform (B, N), mel (B, T, M), iterations -> waveform (B, N) whose mel is nearer to that one (tts/mel_correction.py).
Correction = Callable[..., Tensor]


class VocoderStage(Stage):
    """Spectral, adversarial and feature losses.

    Args:
        discriminators: trained together with the model. correction: mel correction, which its output always passes.
        corrections, corrections_in_training: iterations of the correction.
        log_mel: the spectrogram of `mel`.
        codec: the export of stage=codec, frozen, whose mels the vocoder learns to synthesise too, or None.
        evaluator: model, `synthesize`, `codec`, and the spectrogram -> what measures them.
        n_ffts: resolutions of the spectral loss.
        adversarial_from: share (0 to 1) of `max_steps` after which the discriminators join in; 1: never.
        discriminator_rate: their learning rate, as a factor. mel: metadata of the spectrogram.
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
        super().__init__(training, model=model, evaluator=measured, metadata=metadata)
        self.discriminators, self.codec, self.correction, self.log_mel = discriminators, frozen, correction, log_mel
        if frozen is not None:
            self.keep_frozen(frozen)
        self.corrections_in_training = corrections_in_training
        self.n_ffts, self.discriminator_rate = list(n_ffts), discriminator_rate
        self.adversarial_start = round(adversarial_from * max_steps)

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        return [("vocoder", self.model, 1.0), ("discriminators", self.discriminators, self.discriminator_rate)]

    def optional_modules(self) -> dict[str, nn.Module]:
        """The discriminators, which wait for their time."""
        return {"discriminators": self.discriminators}

    def used_modules(self, batch: WaveformBatch) -> set[str]:
        """Whether it has come."""
        return set(self.optional_modules()) if self.global_step >= self.adversarial_start else set()

    def compiled_modules(self) -> list[nn.Module]:
        return list(self.model.backbone.blocks)

    def separately_clipped(self) -> list[nn.Module]:
        """Each side by its own norm: what one learns does not shrink the other's step."""
        return [self.model, self.discriminators]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Moments of zeros, which older versions gave discriminators that were waiting, are forgotten."""
        super().on_load_checkpoint(checkpoint)
        for optimizer in checkpoint.get("optimizer_states", []):
            states = optimizer.get("state", {})
            for number in [n for n, state in states.items() if "exp_avg_sq" in state and not state["exp_avg_sq"].any()]:
                del states[number]

    def step(self, batch: WaveformBatch) -> dict[str, Tensor]:
        """`mel` and `spectral`; in training, once the discriminators join in, also `generator`, `feature`, `discriminator`."""
        fake = self.synthesize(self._input_mel(batch), corrections=self.corrections_in_training)
        with torch.autocast(self.device.type, enabled=False):
            losses = {
                "mel": mel_distance(self.log_mel, fake, batch.waveform),
                "spectral": spectral_loss(fake, batch.waveform, n_ffts=self.n_ffts),
            }
        if self.training:
            losses |= self._adversarial(fake, batch.waveform)
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

    def _adversarial(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """`generator` and `feature` reach the generator alone, `discriminator` the discriminators alone."""
        if self.global_step < self.adversarial_start:
            return {}
        on_real, on_fake = self.discriminators(real), self.discriminators(fake.detach())
        weights = {name: parameter.detach() for name, parameter in self.discriminators.named_parameters()}
        for_generator = torch.func.functional_call(self.discriminators, weights, (fake,))
        return {
            "generator": generator_loss(for_generator),
            "feature": feature_loss(on_real, for_generator),
            "discriminator": discriminator_loss(on_real, on_fake),
        }
