"""Thinker pretraining: the next token of documents."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from muomni.batch import TextBatch
from muomni.evaluation.thinker import ThinkerEvaluator
from muomni.losses.balance import balance_loss
from muomni.losses.cross_entropy import masked_cross_entropy, weighted_cross_entropy
from muomni.models import flops
from muomni.models.thinker import Thinker
from muomni.nn.flops import Cost
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


def next_token(
    model: Thinker,
    ids: Tensor,
    targets: Tensor,
    *,
    mask: SegmentMask | None,
    weights: Tensor | None,
    label_smoothing: float,
) -> tuple[Tensor, list[Tensor]]:
    """The model and its loss as one function: compiled as one, the logits are read once instead of five times. Returns the loss
    and the router's logits of a mixture of experts."""
    output = model(ids, mask=mask)
    if weights is None:
        return masked_cross_entropy(output.logits, targets, label_smoothing=label_smoothing), output.router_logits
    loss = weighted_cross_entropy(output.logits, targets, weights, label_smoothing=label_smoothing)
    return loss, output.router_logits


class ThinkerStage(Stage):
    """Next-token prediction.

    Args:
        evaluator: model, and `decode` -> what measures it.
        tokenizer: its SentencePiece file. tokenizer_fingerprint: of that file. decode: ids -> text.
    """

    name = "thinker"
    loss_names = ("next_token", "balance")
    smooths_labels = True
    model: Thinker

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
        measured, metadata = evaluator(model=model, decode=decode), {"tokenizer": tokenizer_fingerprint}
        super().__init__(training, model=model, evaluator=measured, metadata=metadata, tokenizer=tokenizer)
        self.next_token: Callable[..., tuple[Tensor, list[Tensor]]] = next_token

    def compile_parts(self) -> None:
        """The model with its loss: training rows have one shape."""
        self.next_token = torch.compile(next_token)

    def step(self, batch: TextBatch) -> dict[str, Tensor]:
        """Cross-entropy of the next token, weighted where the batch says so (training), and with a mixture of experts
        their balance."""
        model = self.model
        loss, router_logits = self.next_token(
            model, batch.ids, batch.targets, mask=batch.mask, weights=batch.weights, label_smoothing=self.smoothing
        )
        losses = {"next_token": loss}
        if router_logits:
            losses["balance"] = balance_loss(router_logits, keep=batch.ids != PAD, per_token=model.experts_per_token)
        return losses

    def step_cost(self, batch: TextBatch) -> Cost:
        B, T = batch.ids.shape
        return flops.thinker(self.model, B, T, predicted=B * T)

    def target_counts(self, batch: TextBatch) -> dict[str, Tensor]:
        """Tokens, by their weights where they have some."""
        learnt = batch.targets != IGNORE
        weight = learnt if batch.weights is None else learnt * batch.weights
        return {"next_token": weight.sum(), "balance": (batch.ids != PAD).sum()}
