"""Stochastic depth: right in expectation, off in evaluation and at 0, and a function of the generator alone."""

import pytest
import torch
from torch import nn

from muomni.nn.transformer import Transformer, drop_rows
from tests.unit.nn.test_transformer import gradients, thinker


class Add(nn.Module):
    """A block that adds one, and counts its calls."""

    def forward(self, x, context, *, layer=0):
        return x + 1, None


def test_expectation_is_the_block_itself():
    torch.manual_seed(0)
    x, y = torch.randn(20000, 1, 4), torch.randn(20000, 1, 4)
    dropped = drop_rows(x, y, probability=0.3)
    torch.testing.assert_close(dropped.mean(), y.mean(), atol=0.02, rtol=0)
    skipped = (dropped == x).all(dim=(1, 2))
    assert float(skipped.float().mean()) == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(dropped[~skipped], (x + (y - x) / 0.7)[~skipped])


def test_later_blocks_are_skipped_more_often():
    torch.manual_seed(0)
    model = Transformer([Add(), Add()], norm=nn.Identity()).train()
    model.layer_drop = 0.5
    hidden = model(torch.zeros(4000, 1, 1)).hidden.flatten()
    first, second = 1 / 0.75, 1 / 0.5
    shares = {value: float((hidden - value).abs().lt(1e-5).float().mean()) for value in (0.0, first, second)}
    assert shares[0.0] == pytest.approx(0.25 * 0.5, abs=0.03)
    assert shares[first] == pytest.approx(0.75 * 0.5, abs=0.03)
    assert shares[second] == pytest.approx(0.25 * 0.5, abs=0.03)
    assert float(hidden.mean()) == pytest.approx(2, abs=0.06)


def test_zero_draws_nothing_and_evaluation_drops_nothing():
    model, ids = thinker().train(), torch.arange(8)[None]
    torch.manual_seed(3)
    plain, state = model(ids).logits, torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())
    model.transformer.layer_drop = 0.9
    assert torch.equal(model.eval()(ids).logits, plain)
    assert torch.equal(torch.get_rng_state(), state)


def test_checkpointed_activations_have_the_same_gradients():
    model = thinker(dropout=0.1).train()
    model.transformer.layer_drop = 0.5
    plain, _ = gradients(model, False)
    again, _ = gradients(model, True)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_it_can_be_traced_as_one_graph():
    """What torch.compile needs, without the minutes of its code generation."""
    model = Transformer([Add(), Add()], norm=nn.Identity()).train()
    model.layer_drop = 0.5
    x = torch.randn(4, 2, 3)
    torch.manual_seed(1)
    eager = model(x).hidden
    torch.manual_seed(1)
    traced = torch.compile(model, backend="eager", fullgraph=True)(x).hidden
    torch.testing.assert_close(traced, eager)
