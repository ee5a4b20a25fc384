"""Options of how the Talker's codes are chosen; the defaults are greedy decoding, as without them."""

import math
from dataclasses import dataclass, fields
from typing import Any

from muomni.inference.decoding.options import MAX_SEED
from muomni.inference.errors import InvalidOption
from muomni.models.talker import Talker
from muomni.short_repr import shown

#: Option -> its largest value; the smallest is 0.
LARGEST = {"guidance": 20.0, "code_penalty": 100.0, "code_temperature": 10.0}


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """Raises InvalidOption naming the option for a value of the wrong type, out of range, or without effect.

    guidance: logits are those without the text plus so many times what the text changes in them (classifier-free guidance: Ho &
    Salimans 2022, arXiv:2207.12598); 1: the text alone counts, and no second pass is computed; 0: as if it was not there.
    code_penalty: subtracted from the logit of a code for each of the last frames that has it in the same codebook.
    code_temperature: 0: the most likely codes; else they are drawn, by code_seed: number of a text's frame and codebook.
    """

    guidance: float = 1.0
    code_penalty: float = 0.0
    code_temperature: float = 0.0
    code_seed: int = 0

    def __post_init__(self) -> None:
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and 0 <= value <= largest):
                raise InvalidOption(f"{name}={shown(value, str)}: a number from 0 to {largest:g} is needed", param=name)
        seed = self.code_seed
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise InvalidOption(
                f"code_seed={shown(seed, str)}: a whole number from 0 to 2 ** 62 is needed", param="code_seed"
            )
        if seed and not self.code_temperature:
            raise InvalidOption(
                f"code_seed={seed}: without effect, since the most likely codes are taken: set code_temperature=0.7, or leave it "
                "out",
                param="code_seed",
            )

    @property
    def is_greedy(self) -> bool:
        """True if nothing but the Talker's own logits decides."""
        return self.guidance == 1 and not self.code_penalty and not self.code_temperature

    def check(self, talker: Talker) -> None:
        """Raise InvalidOption for an option that a Talker does not know."""
        if not self.is_greedy and talker.pattern != "parallel":
            raise InvalidOption(
                "guidance=, code_penalty= and code_temperature= are of a Talker that predicts the codes of a frame together "
                f"(backbone.talker.pattern=parallel); this one has pattern={talker.pattern}: leave them out",
                param=next(name for name in NAMES if getattr(self, name) != getattr(GREEDY, name)),
            )
        if self.guidance != 1 and not talker.text_dropout:
            raise InvalidOption(
                f"guidance={self.guidance:g}: this Talker was never without its text in training: train stage=talker "
                "backbone.talker.text_dropout=0.1, or leave guidance out",
                param="guidance",
            )


GREEDY = SpeechOptions()
NAMES = tuple(field.name for field in fields(SpeechOptions))


def speech_options(given: dict[str, Any]) -> SpeechOptions:
    """Options by name. Raises InvalidOption for an unknown one."""
    for name in given:
        if name not in NAMES:
            raise InvalidOption(f"unknown option {shown(name)} of speech; available: {', '.join(NAMES)}", param=name)
    return SpeechOptions(**given)
