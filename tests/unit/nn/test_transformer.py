"""Activations computed again: the same gradients, from less memory."""

import pytest
import torch

from muomni.losses.balance import balance_loss
from muomni.models.thinker import Thinker
from muomni.nn.transformer import Transformer


def thinker(**options):
    torch.manual_seed(0)
    shape = {"vocab_size": 32, "dim": 32, "num_layers": 6, "num_heads": 2, "num_kv_heads": 2, "ff_dim": 64}
    return Thinker(**shape, max_length=64, **options)


def gradients(model, recompute, steps=1):
    """Of a loss with dropout and, where there are experts, their balance; and the bytes that the backward pass keeps."""
    model.transformer.recompute = recompute
    model.zero_grad()
    torch.manual_seed(1)
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    ids = torch.randint(32, (4, 64))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = model(ids)
        loss = output.logits.square().mean()
        if output.router_logits:
            loss = loss + balance_loss(output.router_logits, keep=ids >= 0, per_token=2)
    layers = len(output.router_logits)
    loss.backward()
    assert len(output.router_logits) == layers, "the second run adds nothing"
    bytes_kept = sum(size for pointer, size in kept.items() if pointer not in weights)
    return [p.grad.clone() for p in model.parameters() if p.grad is not None], bytes_kept


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"num_experts": 4}])
def test_gradients_are_equal_and_memory_is_less(options):
    model = thinker(**options).train()
    plain, much = gradients(model, False)
    again, little = gradients(model, True)
    assert len(plain) == len(again)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    assert little < 0.4 * much


def test_evaluation_and_caches_are_as_they_were():
    model = thinker().eval()
    ids = torch.randint(32, (1, 8))
    with torch.no_grad():
        plain = model(ids).logits
        model.transformer.recompute = True
        assert torch.equal(model(ids).logits, plain)
        cached = model(ids, cache=model.new_cache(1)).logits
    torch.testing.assert_close(cached, plain, rtol=1e-4, atol=1e-5)


def test_it_is_off_until_set():
    assert not any(module.recompute for module in thinker().modules() if isinstance(module, Transformer))


def test_no_blocks_are_the_norm_alone():
    x = torch.randn(2, 3, 8)
    norm = torch.nn.LayerNorm(8)
    assert torch.equal(Transformer([], norm=norm)(x).hidden, norm(x))
