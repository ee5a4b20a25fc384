"""Thinker pretraining: the next token of documents.

Legend: B batch, T tokens, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import TextBatch
from muomni.losses.balance import balance_loss
from muomni.losses.cross_entropy import masked_cross_entropy, token_nats, weighted_cross_entropy
from muomni.models.thinker import Thinker
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.base import Stage

SHOWN = 2  # questions of each kind that `samples` gives


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

    Metrics of a split of documents: `loss` (nats a token, end token included), and where the generator's entropy is
    known `floor` and `loss_minus_floor`, over all and by kind. Of prompts with answers: exact match in percent by kind
    (the answer and its end token are each the most likely one, which is greedy decoding).

    Args:
        model: the Thinker. tokenizer: its SentencePiece file. tokenizer_fingerprint: of that file. decode: ids -> text.
    """

    name = "thinker"
    gathered = ("_nats", "_tokens", "_floor", "_right", "_asked")

    def __init__(
        self,
        *,
        model: Thinker,
        tokenizer: Path,
        tokenizer_fingerprint: str,
        decode: Callable[[list[int]], str],
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.model = model
        self.tokenizer, self.tokenizer_fingerprint = Path(tokenizer), tokenizer_fingerprint
        self.decode = decode
        self.next_token: Callable[..., tuple[Tensor, list[Tensor]]] = next_token

    def sharded_modules(self) -> list[nn.Module]:
        """The blocks."""
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
        """See `step`."""
        return ("next_token", "balance")

    def target_counts(self, batch: TextBatch) -> dict[str, Tensor]:
        """Tokens, by their weights where they have some."""
        learnt = batch.targets != IGNORE
        weight = learnt if batch.weights is None else learnt * batch.weights
        return {"next_token": weight.sum(), "balance": (batch.ids != PAD).sum()}

    def begin_split(self, split: str) -> None:
        """Sums by kind."""
        self._nats: dict[str, float] = defaultdict(float)
        self._tokens: dict[str, int] = defaultdict(int)
        self._floor: dict[str, float] = defaultdict(float)
        self._right: dict[str, int] = defaultdict(int)
        self._asked: dict[str, int] = defaultdict(int)
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    def test_batch(self, batch: TextBatch, split: str) -> None:
        """Sum nats, floors and right answers; the first target tells a question from a document."""
        logits = self.model(batch.ids).logits
        learnt = batch.targets != IGNORE
        nats = (token_nats(logits, batch.targets) * learnt).double().sum(1).tolist()
        right = ((logits.argmax(-1) == batch.targets) | ~learnt).all(1).tolist()
        question = (~learnt[:, 0]).tolist()
        tokens, floors = learnt.sum(1).tolist(), batch.floors.tolist()
        for row, kind in enumerate(batch.kinds):
            if question[row]:
                if self._asked[kind] < SHOWN:
                    self._show(batch, row, logits[row].argmax(-1), split)
                self._asked[kind] += 1
                self._right[kind] += right[row]
            else:
                self._nats[kind] += nats[row]
                self._tokens[kind] += tokens[row]
                self._floor[kind] += floors[row]

    def finish_split(self, split: str) -> dict[str, float]:
        """Losses, floors and accuracies."""
        metrics = {kind: 100 * self._right[kind] / asked for kind, asked in self._asked.items()}
        if not self._tokens:
            return metrics
        total = sum(self._tokens.values())
        metrics["loss"] = sum(self._nats.values()) / total
        floor = sum(self._floor.values()) / total
        if floor == floor:
            metrics |= {"floor": floor, "loss_minus_floor": metrics["loss"] - floor}
            for kind, tokens in self._tokens.items():
                metrics[f"loss_minus_floor_{kind}"] = (self._nats[kind] - self._floor[kind]) / tokens
        return metrics

    def _show(self, batch: TextBatch, row: int, likeliest: Tensor, split: str) -> None:
        learnt = batch.targets[row] != IGNORE
        first = int(learnt.int().argmax())
        self._shown.append(
            {
                "split": split,
                "id": batch.sample_ids[row],
                "kind": batch.kinds[row],
                "question": self.decode(batch.ids[row, : first + 1].tolist()),
                "answer": self.decode(likeliest[learnt].tolist()),
                "truth": self.decode(batch.targets[row][learnt].tolist()),
            }
        )

    def samples(self) -> list[dict[str, Any]]:
        """Questions with the likeliest answer and the true one."""
        return self._shown

    def export_parts(self) -> dict[str, nn.Module]:
        """The language model."""
        return {"thinker": self.model}

    def export_facts(self) -> dict[str, Any]:
        """The tokenizer it was trained with."""
        return {"stage": self.name, "tokenizer": self.tokenizer_fingerprint}

    def export_files(self) -> dict[str, Path]:
        """The tokenizer itself."""
        return {"tokenizer.model": self.tokenizer}
