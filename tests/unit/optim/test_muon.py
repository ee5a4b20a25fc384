"""Muon's direction is nearly orthogonal; Muon and AdamW together resume exactly, and AdamW inside is torch's."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from muomni.optim.groups import parameter_groups
from muomni.optim.muon import NEWTON_SCHULZ, MuonAdamW, orthogonal_factors
from muomni.optim.optimizers import adamw, muon
from muomni.optim.schedule import warmup_stable_decay
from tests.unit.optim.rounded import Rounded


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def model():
    return nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 7))


def orthogonalise(matrices):
    left, right = orthogonal_factors(matrices)
    return left @ right


def make(net, kind="muon", lr=1e-2):
    groups = parameter_groups([("net", net, 1.0)], weight_decay=0.1)
    if kind == "adamw":
        return adamw(groups, lr=lr, betas=(0.9, 0.98), adam_ratio=1.0)
    return muon(groups, lr=lr, betas=(0.9, 0.98), momentum=0.95, adam_ratio=0.5)


def train(net, optimizer, steps, start=0, schedule=None):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 7, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(ids), (ids + 1) % 7).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


@pytest.mark.parametrize("shape", [(3, 20, 20), (2, 10, 40), (2, 40, 10)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    """Of a well-conditioned matrix; the signs of the singular directions stay."""
    x = torch.randn(shape)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    x = left @ torch.diag_embed(0.2 + values / values.max()) @ right
    out = orthogonalise(x)
    after = torch.linalg.svdvals(out)
    assert out.shape == x.shape
    assert 0.6 < after.min() < after.max() < 1.3
    assert torch.linalg.vecdot(left.mT @ out, right).min() > 0.6


def hard_matrices(rows, columns):
    """As momenta are: a few large singular values and many small ones, or little beside a matrix of rank one."""
    small = min(rows, columns)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    spectra = [
        torch.logspace(0, -6, small),
        torch.linspace(1, 0, small) ** 4,
        torch.tensor([1.0] + [1e-4] * (small - 1)),
    ]
    flat = torch.randn(rows, 1) @ torch.randn(1, columns)
    noisy = [flat + size * torch.randn(rows, columns) for size in (1e-1, 1e-2, 1e-3)]
    return torch.stack([left @ (spectrum[:, None] * right) for spectrum in spectra] + noisy)


@pytest.mark.parametrize("bits", [10, 7])
@pytest.mark.parametrize("shape", [(64, 64), (64, 80), (96, 64), (64, 192), (384, 64)])
def test_rounded_products_do_not_blow_up_singular_values(shape, bits):
    """train.py allows TF32; Newton-Schulz on a Gram matrix computed once gave 4 and more under it."""
    hard, gaussian = hard_matrices(*shape), torch.randn(2, *shape)
    exact = orthogonalise(gaussian)
    with Rounded(bits) as mode:
        rounded, near = orthogonalise(hard), orthogonalise(gaussian)
    assert mode.products
    assert torch.linalg.svdvals(rounded).max() < 1.25
    assert (near - exact).norm() / exact.norm() < (0.02 if bits == 10 else 0.15)


@pytest.mark.parametrize("shape", [(20, 20), (20, 24), (24, 20), (20, 60), (120, 20), (1, 7), (3, 2)])
def test_both_forms_are_the_five_steps_of_the_paper(shape):
    a, b, c = NEWTON_SCHULZ
    x = torch.randn(3, *shape, dtype=torch.float64)
    wanted = x / x.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram = wanted @ wanted.mT
        wanted = a * wanted + (b * gram + c * gram @ gram) @ wanted
    torch.testing.assert_close(orthogonalise(x.float()).double(), wanted, rtol=1e-3, atol=1e-4)


def test_zeros_stay_zeros_and_half_precision_is_computed_in_float32():
    assert torch.equal(orthogonalise(torch.zeros(1, 3, 5)), torch.zeros(1, 3, 5))
    x = hard_matrices(16, 48).bfloat16()
    assert torch.equal(orthogonalise(x), orthogonalise(x.float())) and orthogonalise(x).dtype == torch.float32


def test_a_batch_of_matrices_equals_each_alone():
    x = torch.randn(4, 6, 9)
    torch.testing.assert_close(orthogonalise(x)[2], orthogonalise(x[2:3])[0])


def test_a_muon_step_by_hand():
    """First step: momentum 0.05 g, Nesterov mix g + 0.95 (0.05 g - g); decay and scale as documented."""
    weight = nn.Parameter(torch.randn(6, 4))
    start, weight.grad = weight.detach().clone(), torch.randn(6, 4)
    group = {"params": [weight], "weight_decay": 0.1, "muon": True}
    MuonAdamW([group], lr=0.02, betas=(0.9, 0.98), momentum=0.95).step()
    direction = orthogonalise(weight.grad.lerp(0.05 * weight.grad, 0.95)[None])[0]
    torch.testing.assert_close(weight.detach(), start * (1 - 0.02 * 0.1) - 0.02 * 0.2 * 6**0.5 * direction)


def test_the_rest_takes_torchs_own_adamw_step():
    net, twin = nn.LayerNorm(5), nn.LayerNorm(5)
    ours, theirs = make(net), AdamW(twin.parameters(), lr=1e-2 * 0.5, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(3):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        for module, optimizer in ((net, ours), (twin, theirs)):
            optimizer.zero_grad()
            module(x).pow(3).sum().backward()
            optimizer.step()
    torch.testing.assert_close(net.weight, twin.weight)
    torch.testing.assert_close(net.bias, twin.bias)


def test_both_parts_learn():
    net = model()
    optimizer, before = make(net, lr=3e-2), copy.deepcopy(net.state_dict())
    train(net, optimizer, 150)
    ids = torch.arange(7)
    assert (net(ids).argmax(-1) == (ids + 1) % 7).all()
    assert all(not torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_resumed_equals_uninterrupted(kind):
    straight = model()
    stopped = copy.deepcopy(straight)
    runs = []
    for net in (straight, stopped):
        optimizer = make(net, kind)
        runs.append((optimizer, schedule_of(optimizer)))
    train(straight, runs[0][0], 10, schedule=runs[0][1])
    train(stopped, runs[1][0], 5, schedule=runs[1][1])
    saved = copy.deepcopy((stopped.state_dict(), runs[1][0].state_dict(), runs[1][1].state_dict()))

    resumed = model()
    optimizer = make(resumed, kind)
    schedule = schedule_of(optimizer)
    resumed.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    schedule.load_state_dict(saved[2])
    train(resumed, optimizer, 5, start=5, schedule=schedule)
    for key, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def schedule_of(optimizer):
    return warmup_stable_decay(optimizer, max_steps=10, warmup_steps=2, decay_fraction=0.5, final=0.1)


def test_a_schedule_reaches_the_inner_adamw():
    net = model()
    optimizer = make(net)
    schedule_of(optimizer)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"net/matrices": 0.005, "net/vectors": 0.0025})
    before = net[0].weight.detach().clone()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(net, optimizer, 1)
    assert torch.equal(net[0].weight, before)


def test_the_optimizers_rates_follow_the_groups_scale():
    slow, fast = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = parameter_groups([("slow", slow, 0.1), ("fast", fast, 1.0)], weight_decay=0.1)
    optimizer = adamw(groups, lr=1.0, betas=(0.9, 0.98), adam_ratio=0.5)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx(
        {"slow/matrices": 0.1, "slow/vectors": 0.05, "fast/matrices": 1.0, "fast/vectors": 0.5}
    )


def test_stacked_matrices_step_as_if_each_were_a_parameter_of_its_own():
    """The experts of a mixture; 3-D weights of convolutions stay one matrix each."""
    stacked = nn.Parameter(torch.randn(3, 8, 5))
    apart = [nn.Parameter(matrix.detach().clone()) for matrix in stacked]
    optimizers = []
    for parameters, is_stacked in (([stacked], True), (apart, False)):
        group = {"params": parameters, "muon": True, "stacked": is_stacked, "weight_decay": 0.1}
        optimizers.append(MuonAdamW([group], lr=0.1, betas=(0.9, 0.98), momentum=0.9))
    for _ in range(3):
        stacked.grad = torch.randn(3, 8, 5)
        for matrix, gradient in zip(apart, stacked.grad, strict=True):
            matrix.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(stacked.detach(), torch.stack([matrix.detach() for matrix in apart]))
