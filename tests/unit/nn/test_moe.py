"""The mixture of experts: by hand, whatever stands beside a token, evenly used where the balance loss says so."""

import pytest
import torch
import torch.nn.functional as F

from muomni.losses.balance import balance_loss
from muomni.nn.initialise import initialise
from muomni.nn.moe import MoE

D, HIDDEN, E = 16, 24, 4


def make(*, experts=E, per_token=2, seed=0):
    torch.manual_seed(seed)
    layer = MoE(D, hidden=HIDDEN, num_experts=experts, per_token=per_token)
    initialise(layer, num_layers=1, gain=1.0)
    torch.nn.init.normal_(layer.router.weight)
    return layer


def expert(layer, index, x):
    gate, up = (x @ layer.experts.gate_up[index].T).chunk(2, dim=-1)
    return (F.silu(gate) * up) @ layer.experts.down[index].T


@pytest.mark.parametrize("per_token", [1, 2, E])
def test_by_hand_the_chosen_experts_weighted_by_a_softmax_over_them_alone(per_token):
    """Mixtral, 2.1: softmax(top-k of the logits), a sum of SwiGLUs."""
    layer, x = make(per_token=per_token), torch.randn(2, 5, D)
    out, router_logits = layer(x)
    for row in range(2):
        for place in range(5):
            token = x[row, place]
            best, chosen = (layer.router.weight @ token).topk(per_token)
            by_hand = sum(
                share * expert(layer, index, token) for share, index in zip(best.softmax(0), chosen, strict=True)
            )
            torch.testing.assert_close(out[row, place], by_hand, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(router_logits, layer.router(x))


def test_by_hand_weighted_by_a_softmax_over_all_experts():
    layer, x = make(), torch.randn(1, 3, D)
    layer.norm_topk_prob = False
    out, router_logits = layer(x)
    for place in range(3):
        shares = router_logits[0, place].softmax(0)
        by_hand = sum(shares[index] * expert(layer, index, x[0, place]) for index in shares.topk(2).indices)
        torch.testing.assert_close(out[0, place], by_hand, atol=1e-5, rtol=1e-5)


def test_every_token_is_answered_alone():
    """No capacity and nothing dropped: neighbours, padding and the batch have no say."""
    layer, x = make(), torch.randn(3, 7, D)
    whole = layer(x)[0]
    torch.testing.assert_close(layer(x[1:2, 4:5])[0], whole[1:2, 4:5])
    other = x.clone()
    other[:, 5:] = 1e3
    torch.testing.assert_close(layer(other)[0][:, :5], whole[:, :5])


def test_only_the_chosen_experts_learn_from_a_token():
    layer, x = make(per_token=1), torch.randn(1, D)
    layer(x)[0].sum().backward()
    touched = layer.experts.down.grad.abs().sum(dim=(1, 2)) > 0
    assert touched.tolist() == [index == int(layer.router(x).argmax()) for index in range(E)]


def test_under_autocast_the_experts_are_half_precision_and_the_router_is_not():
    layer, x = make(), torch.randn(4, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, router_logits = layer(x)
    assert (out.dtype, router_logits.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(out.float(), layer(x)[0], atol=0.1, rtol=0.1)


def test_compiled_it_is_the_same():
    """module.compile_model=true compiles the block around it."""
    layer, x = make(), torch.randn(1, 6, D)
    expected = layer(x)
    layer.compile(backend="eager")
    torch.testing.assert_close(layer(x), expected)


def test_initial_weights_are_those_of_a_plain_mlp_and_routing_starts_near_even():
    torch.manual_seed(0)
    layer = MoE(64, hidden=256, num_experts=8, per_token=2)
    initialise(layer, num_layers=8, gain=1.0)
    assert layer.experts.gate_up.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert layer.experts.down.std().item() == pytest.approx(256**-0.5 / 4, rel=0.05)
    assert layer.router.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("options", "message"), [
    ({"per_token": 5}, "experts_per_token=5: from 1 to num_experts=4"),
    ({"per_token": 0}, "experts_per_token=0: from 1 to num_experts=4"),
    ({"hidden": 20}, "num_experts=4: dim 16 and ff_dim 20 must be multiples of 8"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MoE(D, **({"hidden": HIDDEN, "num_experts": E, "per_token": 2} | options))


def train(*, balance, steps=150):
    """Four kinds of tokens of unlike frequency, each with a map of its own to learn, from a router that prefers one
    expert -> the share of the choices that each expert gets, falling."""
    layer = make(per_token=1, seed=1)
    layer.router.weight.data *= 0.02
    layer.router.weight.data[0] += 0.3 * torch.ones(D)
    kinds, maps = torch.randn(4, D) + 0.5, torch.randn(4, D, D) * D**-0.5
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    frequencies = torch.tensor([0.3, 0.25, 0.25, 0.2])
    for _ in range(steps):
        kind = torch.multinomial(frequencies, 128, replacement=True)
        x = kinds[kind] + 0.3 * torch.randn(128, D)
        answers, router_logits = layer(x[None])
        error = (answers[0] - (maps[kind] @ x[..., None])[..., 0]).square().mean()
        keep = torch.ones(1, 128, dtype=torch.bool)
        loss = error + balance * balance_loss([router_logits], keep=keep, per_token=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    chosen = router_logits.argmax(-1).flatten().bincount(minlength=E)
    return (chosen / chosen.sum()).sort(descending=True).values


def test_with_the_balance_loss_experts_are_used_evenly_and_without_it_less():
    """Switch, 2.2: the loss is what keeps a router from sending nearly everything to few experts."""
    even, free = train(balance=0.1), train(balance=0.0)
    assert even[0] < 0.45 and even[-1] > 0.1
    assert free[0] > even[0] + 0.15
