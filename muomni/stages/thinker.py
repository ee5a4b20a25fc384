"""Thinker pretraining: the next token of documents.

Legend: B batch, T tokens, V vocabulary.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import TextBatch
from muomni.evaluation.thinker import ThinkerEvaluator
from muomni.losses.balance import balance_loss
from muomni.losses.cross_entropy import masked_cross_entropy, weighted_cross_entropy
from muomni.models.thinker import Thinker
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


def next_token(
    model: Thinker, ids: Tensor, targets: Tensor, *, mask: SegmentMask | None, weights: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The model and its loss as one function: compiled as one, the logits are read once instead of five times. Gives the loss
    and the router's logits of a mixture of experts."""
    output = model(ids, mask=mask)
    if weights is None:
        return masked_cross_entropy(output.logits, targets), output.router_logits
    return weighted_cross_entropy(output.logits, targets, weights), output.router_logits


class ThinkerStage(Stage):
    """Next-token prediction.

    Args:
        model: the Thinker. evaluator: model, and `decode` -> what measures it.
        tokenizer: its SentencePiece file. tokenizer_fingerprint: of that file. decode: ids -> text.
    """

    name = "thinker"

    def __init__(
        self,
        *,
        model: Thinker,
        evaluator: Callable[..., ThinkerEvaluator],
        tokenizer: Path,
        tokenizer_fingerprint: str,
        decode: Callable[[list[int]], str],
        training: TrainingOptions,
    ) -> None:
        super().__init__(training, evaluator=evaluator(model, decode=decode))
        self.model = model
        self.tokenizer, self.tokenizer_fingerprint = Path(tokenizer), tokenizer_fingerprint
        self.next_token: Callable[..., tuple[Tensor, list[Tensor]]] = next_token

    def sharded_modules(self) -> list[nn.Module]:
        return list(self.model.transformer.blocks)

    def compile_parts(self) -> None:
        """The model with its loss: training rows have one shape."""
        self.next_token = torch.compile(next_token)

    def step(self, batch: TextBatch) -> dict[str, Tensor]:
        """Cross-entropy of the next token, weighted where the batch says so (training), and with a mixture of experts
        their balance."""
        loss, router_logits = self.next_token(
            self.model, batch.ids, batch.targets, mask=batch.mask, weights=batch.weights
        )
        losses = {"next_token": loss}
        if router_logits:
            losses["balance"] = balance_loss(
                router_logits, keep=batch.ids != PAD, per_token=self.model.experts_per_token
            )
        return losses

    def loss_names(self) -> tuple[str, ...]:
        return ("next_token", "balance")

    def target_counts(self, batch: TextBatch) -> dict[str, Tensor]:
        """Tokens, by their weights where they have some."""
        learnt = batch.targets != IGNORE
        weight = learnt if batch.weights is None else learnt * batch.weights
        return {"next_token": weight.sum(), "balance": (batch.ids != PAD).sum()}

    def export_modules(self) -> dict[str, nn.Module]:
        return {"thinker": self.model}

    def export_metadata(self) -> dict[str, Any]:
        """The tokenizer it was trained with."""
        return {"stage": self.name, "tokenizer": self.tokenizer_fingerprint}

    def export_files(self) -> dict[str, Path]:
        return {"tokenizer.model": self.tokenizer}
