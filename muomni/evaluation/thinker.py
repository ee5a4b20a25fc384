"""The language model: nats of documents compared with the entropy of what wrote them, and answers by exact match."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from muomni.batch import TextBatch
from muomni.evaluation.attention_map import attention_map
from muomni.evaluation.base import Evaluator, State
from muomni.evaluation.views import ROWS, View, heat_map
from muomni.losses.cross_entropy import token_nats
from muomni.models.thinker import Thinker
from muomni.special_tokens import IGNORE

MAX_EXAMPLES = 2  # of each type of question
PROMPT, CONTINUED = 16, 24  # tokens of a document that are given, and that the model adds, in a view


@dataclass
class ThinkerState(State):
    """By type of document: nats, targets and the generator's entropy. By type of question: right ones, and all."""

    nats: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    floor: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    questions: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(eq=False, repr=False, kw_only=True)
class ThinkerEvaluator(Evaluator[ThinkerState]):
    """Of documents: `loss` (nats a token, end token included), and where the generator's entropy is known `floor` and
    `loss_minus_floor`, over all and by type. Of questions: exact match in percent by type (the answer and its end token are each
    the most likely one, which is greedy decoding).

    Args:
        model: the Thinker. decode: ids -> text.
    """

    model: Thinker
    decode: Callable[[list[int]], str]
    state_type = ThinkerState

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
                    self._show_question(batch, row, logits[row].argmax(-1))
                state.questions[kind] += 1
                state.right[kind] += right[row]
            else:
                state.nats[kind] += nats[row]
                state.tokens[kind] += tokens[row]
                state.floor[kind] += floors[row]

    @torch.no_grad()
    def views(self, batch: TextBatch) -> list[View]:
        """How the model continues the first tokens of documents, greedily."""
        rows = min(ROWS, len(batch.ids))
        start = min(PROMPT, *batch.lengths[:rows].tolist())
        ids = batch.ids[:rows, :start]
        for _ in range(min(CONTINUED, self.model.max_length - start)):
            ids = torch.cat([ids, self.model(ids, last_only=True).logits.argmax(-1)], dim=1)
        texts = [(self.decode(row[:start]), self.decode(row[start:])) for row in ids.tolist()]
        shown = [View("continuations", f"{begin} ||| {rest}") for begin, rest in texts]
        last: Any = self.model.transformer.blocks[-1]
        weights = attention_map(last.attention, lambda: self.model(ids[:1]))
        caption = f"last block, mean over heads, queries from above: {' '.join(texts[0])}"
        return [*shown, View("attention", caption, heat_map(weights.flip(0), scale=6))]

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

    def _show_question(self, batch: TextBatch, row: int, most_likely: Tensor) -> None:
        learnt = batch.targets[row] != IGNORE
        ids = batch.ids[row, : int(learnt.int().argmax()) + 1], most_likely[learnt], batch.targets[row][learnt]
        question, answer, truth = (self.decode(each.tolist()) for each in ids)
        self.show(batch, row, kind=batch.document_types[row], question=question, answer=answer, truth=truth)
