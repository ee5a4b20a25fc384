"""The thinker stage counts nats, floors and answers as its documents have them."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from muomni.batch import TextBatch
from muomni.evaluation.thinker import ThinkerEvaluator
from muomni.models.outputs import ThinkerOutput
from muomni.models.thinker import Thinker
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.thinker import ThinkerStage
from muomni.stages.training_options import TrainingOptions
from tests.measure import measure

V = 8


class Certain(nn.Module):
    """Says with probability `p` that the token after t is t + 1, the rest evenly."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, ids, mask=None):
        chances = torch.full((*ids.shape, V), (1 - self.p) / (V - 1))
        chances.scatter_(-1, ((ids + 1) % V)[..., None], self.p)
        return ThinkerOutput(logits=chances.log(), hidden=chances)


def stage(p=0.5, **changes):
    options = {
        "decode": lambda ids: " ".join(map(str, ids)), "model": Certain(p), "tokenizer": Path("x"),
        "tokenizer_fingerprint": "f", "evaluator": ThinkerEvaluator,
        "training": TrainingOptions(
            optimizer=None, schedule=None, weight_decay=0.0, loss_weights=changes.pop("loss_weights", {}),
            compile_model=False,
        ),
    }  # fmt: skip
    return ThinkerStage(**(options | changes))


def batch(rows, document_types, floors):
    """rows of (ids, targets)."""
    ids, targets = (torch.tensor([row[k] for row in rows]) for k in (0, 1))
    return TextBatch(
        ids=ids, targets=targets, lengths=torch.full((len(rows),), ids.shape[1]), document_types=document_types,
        floors=torch.tensor(floors, dtype=torch.float64), sample_ids=[str(i) for i in range(len(rows))],
    )  # fmt: skip


def test_loss_and_floor_are_of_tokens_not_of_documents():
    """A document of three tokens in one batch, one of a single token in the next; all follow the rule."""
    long = batch([([1, 2, 3], [2, 3, 4])], ["story"], [0.3])
    short = batch([([5, 0, 0], [6, IGNORE, IGNORE])], ["fact"], [0.5])
    metrics = measure(stage(0.5), long, short)
    assert metrics["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert metrics["floor"] == pytest.approx(0.8 / 4)
    assert metrics["loss_minus_floor"] == pytest.approx(math.log(2) - 0.2, rel=1e-5)
    assert metrics["loss_minus_floor_story"] == pytest.approx(math.log(2) - 0.1, rel=1e-5)
    assert metrics["loss_minus_floor_fact"] == pytest.approx(math.log(2) - 0.5, rel=1e-5)


def test_answers_count_only_when_every_token_is_right():
    questions = batch(
        [([1, 2, 3], [IGNORE, 3, 4]), ([1, 2, 3], [IGNORE, 3, 5]), ([1, 2, 3], [IGNORE, IGNORE, 4])],
        ["fact", "fact", "story"], [float("nan")] * 3,
    )  # fmt: skip
    assert measure(stage(0.9), questions) == {"fact": 50.0, "story": 100.0}


def test_documents_without_a_known_floor_have_a_loss_alone():
    metrics = measure(stage(0.5), batch([([1, 2], [2, 3])], ["text"], [float("nan")]))
    assert set(metrics) == {"loss"}


def test_the_training_loss_is_the_mean_over_targets():
    losses = stage(0.25).step(batch([([1, 2], [2, IGNORE])], ["row"], [float("nan")]))
    assert losses["next_token"].item() == pytest.approx(math.log(4), rel=1e-5)


def test_experts_bring_a_balance_loss_in_which_padding_does_not_count():
    torch.manual_seed(0)
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "ff_dim": 16, "max_length": 8}
    made = stage(model=Thinker(vocab_size=V, num_experts=4, **shape), loss_weights={"balance": 0.5})
    short = batch([([4, 5, 6], [5, 6, 7])], ["row"], [float("nan")])
    padded = batch([([4, 5, 6, PAD, PAD], [5, 6, 7, IGNORE, IGNORE])], ["row"], [float("nan")])
    losses = made.step(short)
    assert set(losses) == {"next_token", "balance"} and losses["balance"] >= 0.9
    torch.testing.assert_close(made.step(padded), losses)
    torch.testing.assert_close(made.total_loss(losses), losses["next_token"] + 0.5 * losses["balance"])
    losses["balance"].backward()
    assert made.model.transformer.blocks[0].mlp.router.weight.grad.abs().sum() > 0
    assert set(stage(model=Thinker(vocab_size=V, **shape)).step(short)) == {"next_token"}
