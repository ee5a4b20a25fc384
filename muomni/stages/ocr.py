"""OCR: images of text -> characters.

Legend: B batch, C characters.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from muomni.batch import OcrBatch
from muomni.evaluation.ocr import OcrEvaluator
from muomni.losses.cross_entropy import masked_cross_entropy
from muomni.models.ocr import Ocr
from muomni.models.outputs import OcrOutput
from muomni.special_tokens import IGNORE
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


class OcrStage(Stage):
    """Next character.

    Args:
        model: encoder and decoder. evaluator: model -> what measures it. image: metadata of the frontend.
    """

    name = "ocr"

    def __init__(
        self,
        *,
        model: Ocr,
        evaluator: Callable[[Ocr], OcrEvaluator],
        image: Mapping[str, Any],
        training: TrainingOptions,
    ) -> None:
        super().__init__(training, evaluator=evaluator(model))
        self.model, self.image = model, dict(image)

    def sharded_modules(self) -> list[nn.Module]:
        return [*self.model.vision.transformer.blocks, *self.model.decoder.transformer.blocks]

    def compiled_modules(self) -> list[nn.Module]:
        return [*self.model.vision.transformer.blocks, *self.model.decoder.transformer.blocks]

    def step(self, batch: OcrBatch) -> dict[str, Tensor]:
        """Cross-entropy of the characters and the end, in nats each."""
        output: OcrOutput = self.model(batch.images, batch.ids)
        return {"characters": masked_cross_entropy(output.logits, batch.targets)}

    def loss_names(self) -> tuple[str, ...]:
        return ("characters",)

    def target_counts(self, batch: OcrBatch) -> dict[str, Tensor]:
        """Characters, and the end of each text."""
        return {"characters": (batch.targets != IGNORE).sum()}

    def export_modules(self) -> dict[str, nn.Module]:
        return {"ocr": self.model}

    def export_metadata(self) -> dict[str, Any]:
        """Its image frontend, and the characters that it writes where they are its own."""
        own = {} if self.model.characters is None else {"characters": self.model.characters}
        return {"stage": self.name, "image": self.image, **own}
