"""Adapters change nothing at first, compute what peft's do, and disappear into the weights they stand next to."""

import copy

import pytest
import torch
from torch import nn

from muomni.nn.flops import linear
from muomni.nn.lora import LAYERS, LoRALinear, merged_state

METHODS = sorted(LAYERS)


def adapted(method, *, trained=True, bias=True, dropout=0.0, scale=2.0):
    """A layer of 6 -> 10, adapted, and the plain one. trained: all of the adapter's numbers are others than at first."""
    torch.manual_seed(0)
    plain = nn.Linear(6, 10, bias=bias)
    layer = LAYERS[method](copy.deepcopy(plain), rank=3, scale=scale, dropout=dropout)
    if trained:
        for name, parameter in layer.named_parameters():
            if name.startswith("lora_"):
                parameter.data += 0.3 * torch.randn_like(parameter)
    return layer, plain


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_at_first_it_is_the_plain_layer_bit_for_bit(method, bias):
    layer, plain = adapted(method, trained=False, bias=bias)
    x = torch.randn(2, 7, 6)
    assert torch.equal(layer(x), plain(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer.merged()(x), plain(x))


@pytest.mark.parametrize("method", METHODS)
def test_merged_it_computes_the_same(method):
    layer, plain = adapted(method)
    x = torch.randn(2, 7, 6)
    torch.testing.assert_close(layer.merged()(x), layer(x), rtol=0, atol=1e-5)
    assert (layer(x) - plain(x)).abs().max() > 0.1
    state = merged_state({f"a.{key}": value for key, value in layer.state_dict().items()}, scale=2.0)
    assert set(state) == {"a.weight", "a.bias"} and torch.equal(state["a.weight"], layer.merged().weight)
    with pytest.raises(ValueError, match="the adapter a does not fit a weight"):
        merged_state(state | {"a.lora_a": torch.zeros(3, 5), "a.lora_b": torch.zeros(10, 3)}, scale=2.0)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_adapter_learns_and_dropout_is_for_training(method):
    layer, _ = adapted(method, dropout=0.5)
    x = torch.randn(4, 6)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer(x).sum().backward()
    assert {name for name, p in layer.named_parameters() if p.grad is not None} == {
        name for name, _ in layer.named_parameters() if name.startswith("lora_")
    }


@pytest.mark.parametrize(("method", "stabilized"), [("lora", False), ("lora", True), ("dora", False)])
def test_outputs_and_gradients_are_those_of_peft(method, stabilized):
    peft = pytest.importorskip("peft")
    scale = 4.0 / (3**0.5 if stabilized else 3)
    layer, plain = adapted(method, scale=scale)
    config = peft.LoraConfig(r=3, lora_alpha=4, target_modules=["0"], use_dora=method == "dora", use_rslora=stabilized)
    reference = peft.get_peft_model(nn.Sequential(plain), config)
    theirs = reference.base_model.model[0]
    pairs = [(layer.lora_a, theirs.lora_A.default.weight), (layer.lora_b, theirs.lora_B.default.weight)]
    if method == "dora":
        pairs.append((layer.lora_magnitude, theirs.lora_magnitude_vector.default.weight))
    for own, other in pairs:
        other.data.copy_(own.data)
    x = torch.randn(5, 6)
    expected = reference(x)
    torch.testing.assert_close(layer(x), expected)
    layer(x).square().sum().backward()
    expected.square().sum().backward()
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad)


def test_what_it_costs():
    """The frozen weight has no gradient; the update has both."""
    layer, plain = adapted("lora")
    assert linear(plain, 5).flops == 3 * 2 * 5 * 60
    assert linear(layer, 5).flops == 2 * 2 * 5 * 60 + 3 * 2 * 5 * 3 * (6 + 10)
    assert isinstance(layer, LoRALinear)
