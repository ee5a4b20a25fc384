"""The language model: nats of documents compared with the entropy of what wrote them, and answers by exact match."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from muomni.batch import TextBatch
from muomni.evaluation.base import Evaluator, State
from muomni.losses.cross_entropy import token_nats
from muomni.models.thinker import Thinker
from muomni.special_tokens import IGNORE

MAX_EXAMPLES = 2  # of each kind of question


@dataclass
class ThinkerState(State):
    """By kind of document: nats, targets and the generator's entropy. By kind of question: right ones, and all."""

    nats: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    floor: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    questions: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class ThinkerEvaluator(Evaluator[ThinkerState]):
    """Of documents: `loss` (nats a token, end token included), and where the generator's entropy is known `floor` and
    `loss_minus_floor`, over all and by kind. Of questions: exact match in percent by kind (the answer and its end token are each
    the most likely one, which is greedy decoding).

    Args:
        model: the Thinker. decode: ids -> text.
    """

    model: Thinker

    def __init__(self, model: Thinker, *, decode: Callable[[list[int]], str]) -> None:
        super().__init__(model)
        self.decode = decode

    def new_state(self) -> ThinkerState:
        return ThinkerState()

    @torch.no_grad()
    def update(self, batch: TextBatch) -> None:
        """The first target tells a question from a document."""
        logits, state = self.model(batch.ids).logits, self.state
        learnt = batch.targets != IGNORE
        nats = (token_nats(logits, batch.targets) * learnt).double().sum(1).tolist()
        right = ((logits.argmax(-1) == batch.targets) | ~learnt).all(1).tolist()
        is_question = (~learnt[:, 0]).tolist()
        tokens, floors = learnt.sum(1).tolist(), batch.floors.tolist()
        for row, kind in enumerate(batch.document_types):
            if is_question[row]:
                if state.questions[kind] < MAX_EXAMPLES:
                    state.examples.append(self._example(batch, row, logits[row].argmax(-1)))
                state.questions[kind] += 1
                state.right[kind] += right[row]
            else:
                state.nats[kind] += nats[row]
                state.tokens[kind] += tokens[row]
                state.floor[kind] += floors[row]

    def compute(self) -> dict[str, float]:
        state = self.state
        metrics = {kind: 100 * state.right[kind] / count for kind, count in state.questions.items()}
        if not state.tokens:
            return metrics
        total = sum(state.tokens.values())
        metrics["loss"] = sum(state.nats.values()) / total
        floor = sum(state.floor.values()) / total
        if floor == floor:
            metrics |= {"floor": floor, "loss_minus_floor": metrics["loss"] - floor}
            for kind, tokens in state.tokens.items():
                metrics[f"loss_minus_floor_{kind}"] = (state.nats[kind] - state.floor[kind]) / tokens
        return metrics

    def _example(self, batch: TextBatch, row: int, most_likely: Tensor) -> dict[str, Any]:
        learnt = batch.targets[row] != IGNORE
        first = int(learnt.int().argmax())
        return {
            "split": self.split,
            "id": batch.sample_ids[row],
            "kind": batch.document_types[row],
            "question": self.decode(batch.ids[row, : first + 1].tolist()),
            "answer": self.decode(most_likely[learnt].tolist()),
            "truth": self.decode(batch.targets[row][learnt].tolist()),
        }
