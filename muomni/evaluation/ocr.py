"""Images of text -> characters: error rates, with the real and with a zeroed image."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muomni.batch import OcrBatch
from muomni.evaluation.base import Evaluator, State
from muomni.evaluation.views import ROWS, View, mark_errors, pixels
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.ocr import Ocr

MAX_EXAMPLES = 4


@dataclass
class OcrState(State):
    """Texts as they were read, with the real and with a zeroed image, and their references."""

    texts: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    truth: list[str] = field(default_factory=list)


@dataclass(eq=False, repr=False, kw_only=True)
class OcrEvaluator(Evaluator[OcrState]):
    """In percent: `cer`, `wer` (corpus level, greedy decoding), `exact` (whole texts right), `cer_shuffled` (against other
    images' texts: what knowing the language alone would give), `cer_blind` (images zeroed), `exact_majority` (always the most
    common text).

    Args:
        model: encoder and decoder. read: (model, images) -> texts.
    """

    model: Ocr
    read: Callable[[Ocr, Tensor], list[str]]
    state_type = OcrState

    @torch.no_grad()
    def update(self, batch: OcrBatch) -> None:
        texts, state = self.read(self.model, batch.images), self.state
        for row in range(min(MAX_EXAMPLES - len(state.examples), len(texts))):
            truth = batch.texts[row]
            self.show(batch, row, image=batch.paths[row], question="read", answer=texts[row], truth=truth)
        state.texts += texts
        state.blind += self.read(self.model, torch.zeros_like(batch.images))
        state.truth += batch.texts

    @torch.no_grad()
    def views(self, batch: OcrBatch) -> list[View]:
        """Images with the text that is read, errors in brackets, and the true one."""
        images = batch.images[:ROWS]
        rows = zip(images, self.read(self.model, images), batch.texts, strict=False)
        return [
            View("images", f"{mark_errors(text, truth)}   (truth: {truth})", pixels(image))
            for image, text, truth in rows
        ]

    def compute(self) -> dict[str, float]:
        state = self.state
        right = sum(text == truth for text, truth in zip(state.texts, state.truth, strict=True))
        return {
            **error_rates(state.texts, state.truth),
            "exact": 100 * right / len(state.truth),
            "exact_majority": 100 * max(Counter(state.truth).values()) / len(state.truth),
            "cer_blind": error_rates(state.blind, state.truth)["cer"],
            "cer_shuffled": error_rates(state.texts, shuffled(state.truth))["cer"],
        }
