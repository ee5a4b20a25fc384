"""OCR: images of text -> characters."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from muomni.batch import OcrBatch
from muomni.evaluation.ocr import OcrEvaluator
from muomni.losses.cross_entropy import masked_cross_entropy
from muomni.models import flops
from muomni.models.ocr import Ocr
from muomni.models.outputs import OcrOutput
from muomni.nn.flops import Cost, linear
from muomni.special_tokens import IGNORE
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


class OcrStage(Stage):
    """Next character.

    Args:
        evaluator: model -> what measures it. image: metadata of the frontend.
    """

    name = "ocr"
    loss_names = ("characters",)
    smooths_labels = True
    model: Ocr

    def __init__(
        self, *, model: Ocr, evaluator: Callable[..., OcrEvaluator], image: Mapping[str, Any], training: TrainingOptions
    ) -> None:
        super().__init__(training, model=model, evaluator=evaluator(model=model), metadata={"image": dict(image)})

    def step(self, batch: OcrBatch) -> dict[str, Tensor]:
        """Cross-entropy of the characters and the end, in nats each."""
        output: OcrOutput = self.model(batch.images, batch.ids)
        return {"characters": masked_cross_entropy(output.logits, batch.targets, label_smoothing=self.smoothing)}

    def step_cost(self, batch: OcrBatch) -> Cost:
        (B, C), model = batch.ids.shape, self.model
        reader = flops.thinker(model.decoder, B, model.patches + C, predicted=B * C)
        return flops.vision(model.vision, B) + linear(model.bridge, B * model.patches) + reader

    def target_counts(self, batch: OcrBatch) -> dict[str, Tensor]:
        """Characters, and the end of each text."""
        return {"characters": (batch.targets != IGNORE).sum()}
