"""Reading: pictures of writing -> characters.

Legend: B batch, C characters.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import OcrBatch
from muomni.losses.cross_entropy import masked_cross_entropy
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.ocr import Ocr
from muomni.models.outputs import OcrOutput
from muomni.special_tokens import IGNORE
from muomni.stages.base import Stage

SHOWN = 4  # pictures of a split that `samples` gives


class OcrStage(Stage):
    """Next character.

    Metrics of a split, in percent: `cer`, `wer` (corpus level, greedy decoding), `exact` (whole texts right),
    `cer_shuffled` (against other pictures' texts: what knowing the language alone would give), `cer_blind` (pictures
    zeroed), `exact_majority` (always the commonest text).

    Args:
        model: encoder and decoder. read: (model, images) -> texts. image: facts of the frontend.
    """

    name = "ocr"
    gathered = ("_read", "_blind", "_truth")

    def __init__(
        self, *, model: Ocr, read: Callable[[Ocr, Tensor], list[str]], image: Mapping[str, Any], **how: Any
    ) -> None:
        super().__init__(**how)
        self.model, self.read, self.image = model, read, dict(image)

    def sharded_modules(self) -> list[nn.Module]:
        """The blocks."""
        return [*self.model.vision.transformer.blocks, *self.model.decoder.transformer.blocks]

    def compiled_modules(self) -> list[nn.Module]:
        """The blocks of encoder and decoder."""
        return [*self.model.vision.transformer.blocks, *self.model.decoder.transformer.blocks]

    def step(self, batch: OcrBatch) -> dict[str, Tensor]:
        """Cross-entropy of the characters and the end, in nats each."""
        output: OcrOutput = self.model(batch.images, batch.ids)
        return {"characters": masked_cross_entropy(output.logits, batch.targets)}

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return ("characters",)

    def target_counts(self, batch: OcrBatch) -> dict[str, Tensor]:
        """Characters, and the end of each text."""
        return {"characters": (batch.targets != IGNORE).sum()}

    def begin_split(self, split: str) -> None:
        """Nothing read yet."""
        self._read: list[str] = []
        self._blind: list[str] = []
        self._truth: list[str] = []
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: OcrBatch, split: str) -> None:
        """Read, with and without eyes."""
        texts = self.read(self.model, batch.images)
        for row in range(min(SHOWN - len(self._read), len(texts))):
            source = {"split": split, "id": batch.sample_ids[row], "image": batch.paths[row], "question": "read"}
            self._shown.append({**source, "answer": texts[row], "truth": batch.texts[row]})
        self._read += texts
        self._blind += self.read(self.model, torch.zeros_like(batch.images))
        self._truth += batch.texts

    def finish_split(self, split: str) -> dict[str, float]:
        """Error rates."""
        right = sum(said == truth for said, truth in zip(self._read, self._truth, strict=True))
        return {
            **error_rates(self._read, self._truth),
            "exact": 100 * right / len(self._truth),
            "exact_majority": 100 * max(Counter(self._truth).values()) / len(self._truth),
            "cer_blind": error_rates(self._blind, self._truth)["cer"],
            "cer_shuffled": error_rates(self._read, shuffled(self._truth))["cer"],
        }

    def samples(self) -> list[dict[str, Any]]:
        """Pictures with what was read and the truth."""
        return self._shown

    def export_parts(self) -> dict[str, nn.Module]:
        """The whole model."""
        return {"ocr": self.model}

    def export_facts(self) -> dict[str, Any]:
        """The frontend it sees through, and the characters that it writes where they are its own."""
        own = {} if self.model.characters is None else {"characters": self.model.characters}
        return {"stage": self.name, "image": self.image, **own}
