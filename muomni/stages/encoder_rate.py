"""A learning rate of its own for the encoder of a stage that trains more than it: a pretrained one is frozen (locked-image
tuning, Zhai et al. 2022, arXiv:2111.07991), or learns slower than a head that is new."""

from collections.abc import Mapping

from torch import nn

from muomni.stages.resume import ResumableStage, check_lr_multipliers

WHOLE = {"encoder": 1.0}


class EncoderRate(ResumableStage):
    """lr_multipliers: the factor of "encoder"; 0 freezes it, 1 is as if there were none."""

    encoder_rate: tuple[nn.Module, float] | None = None

    def rate_encoder(self, encoder: nn.Module, lr_multipliers: Mapping[str, float]) -> None:
        """Called at the end of the stage's constructor."""
        check_lr_multipliers(lr_multipliers, known=tuple(WHOLE))
        factor = lr_multipliers["encoder"]
        if not factor:
            self.keep_frozen(encoder)
        elif factor != 1:
            self.__dict__["encoder_rate"] = (encoder, factor)  # not a second name of the module

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        """The encoder first: a parameter counts where it is named first."""
        rated = [] if self.encoder_rate is None else [("encoder", *self.encoder_rate)]
        return [*rated, *super().trained_modules()]
