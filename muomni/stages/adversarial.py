"""Training against discriminators, for what makes waveforms: the vocoder, the codec of waveforms.

Generator and discriminators train in one step of one optimizer, by one backward: the discriminators get generated audio
detached from the generator, the generator gets copies of the discriminators that learn nothing. Each parameter gets the
gradient that it would get in turns (of the weights before the step), is clipped with its own side alone, and all that holds for
other stages holds here: accumulation, guards, precision, schedule, exact resume. Manual optimisation would lose most of them.
Until they join in, the discriminators have no gradients: zeros would count as steps of their moments.

Legend: B batch, N samples.
"""

from typing import Any

import torch
from torch import Tensor, nn

from muomni.losses.adversarial import discriminator_loss, feature_loss, generator_loss
from muomni.models.discriminators import Discriminators
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


class AdversarialStage(Stage):
    """Base of stages whose `step` adds `adversarial_losses` to its own.

    Args:
        discriminators: trained together with the model. adversarial_from: share (0 to 1) of `max_steps` after which they join
            in; 1: never. discriminator_rate: their learning rate, as a factor. options: of `Stage`.
    """

    def __init__(
        self,
        training: TrainingOptions,
        *,
        discriminators: Discriminators,
        adversarial_from: float,
        max_steps: int,
        discriminator_rate: float,
        **options: Any,
    ) -> None:
        super().__init__(training, **options)
        self.discriminators, self.discriminator_rate = discriminators, discriminator_rate
        self.adversarial_start = round(adversarial_from * max_steps)

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        return [(self.name, self.model, 1.0), ("discriminators", self.discriminators, self.discriminator_rate)]

    def optional_modules(self) -> dict[str, nn.Module]:
        """The discriminators, which wait for their time."""
        return {"discriminators": self.discriminators}

    def used_modules(self, batch: Any) -> set[str]:
        """Whether it has come."""
        return set(self.optional_modules()) if self.global_step >= self.adversarial_start else set()

    def separately_clipped(self) -> list[nn.Module]:
        """Each side by its own norm: what one learns does not shrink the other's step."""
        return [self.model, self.discriminators]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Moments of zeros, which older versions gave discriminators that were waiting, are forgotten. Those of others stay:
        SOAP's first step, which only makes the bases, leaves zeros, too."""
        super().on_load_checkpoint(checkpoint)
        if checkpoint["global_step"] > self.adversarial_start:
            return
        for optimizer in checkpoint.get("optimizer_states", []):
            groups = [group for group in optimizer["param_groups"] if group["name"].startswith("discriminators/")]
            for number in [number for group in groups for number in group["params"]]:
                second = optimizer["state"].get(number, {}).get("exp_avg_sq")
                if second is not None and not second.any():
                    del optimizer["state"][number]

    def adversarial_losses(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Waveforms (B, N) -> once the discriminators join in, `generator` and `feature`, which reach the generator alone, and
        `discriminator`, which reaches the discriminators alone."""
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
