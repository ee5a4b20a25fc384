"""Lion, SOAP and schedule-free AdamW: by hand, on every sort of weight, and resumed bit for bit."""

import copy

import pytest
import torch
from torch import nn

from muomni.optim.groups import parameter_groups
from muomni.optim.lion import SCALE
from muomni.optim.optimizers import adamw, lion, schedule_free, soap
from muomni.optim.schedule import constant
from tests.unit.optim.parts import stages

SOAP = {"shampoo_beta": 0.95, "frequency": 3, "max_side": 64}
MAKE = {
    "lion": lambda groups, **how: lion(groups, **({"lr": 1e-2, "betas": (0.9, 0.99)} | how)),
    "soap": lambda groups, **how: soap(groups, **({"lr": 1e-2, "betas": (0.95, 0.95)} | SOAP | how)),
    "schedule_free": lambda groups, **how: schedule_free(groups, **({"lr": 1e-2, "betas": (0.9, 0.98)} | how)),
}
each = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def groups_of(net, decay=0.1):
    return parameter_groups([("net", net, 1.0)], weight_decay=decay)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 7))


def train(net, optimizer, steps, start=0, schedule=None):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(7, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(ids), (ids + 1) % 7).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


@each
def test_it_learns(make):
    net = small()
    optimizer = make(groups_of(net), lr=5e-2)
    train(net, optimizer, 150)
    for parameter, value in getattr(optimizer, "averages", list)():
        parameter.data.copy_(value)
    ids = torch.arange(7)
    assert (net(ids).argmax(-1) == (ids + 1) % 7).all()


@each
def test_resumed_equals_uninterrupted(make):
    """Stopped after the first, which only makes SOAP's bases, and after 5 of 11 steps, between two updates of them."""

    def begun(net):
        optimizer = make(groups_of(net))
        return optimizer, constant(optimizer, warmup_steps=4)

    straight = small()
    train(straight, *begin(begun(straight), 11))
    for steps in (1, 5):
        stopped, resumed = small(), small()
        runs = begun(stopped)
        train(stopped, runs[0], steps, schedule=runs[1])
        saved = copy.deepcopy((stopped.state_dict(), runs[0].state_dict(), runs[1].state_dict()))
        optimizer, schedule = begun(resumed)
        resumed.load_state_dict(saved[0]), optimizer.load_state_dict(saved[1]), schedule.load_state_dict(saved[2])
        train(resumed, optimizer, 11 - steps, start=steps, schedule=schedule)
        for key, value in straight.state_dict().items():
            assert torch.equal(resumed.state_dict()[key], value), (steps, key)


def begin(run, steps):
    return run[0], steps, 0, run[1]


@each
@pytest.mark.parametrize("stage", stages())
def test_every_weight_of_every_stage_moves_and_stays_finite(make, stage):
    """Convolutions of one and two dimensions, experts, depthwise kernels, heads, codebooks."""
    torch.manual_seed(0)
    net = stages()[stage]
    optimizer = make(groups_of(net))
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for _ in range(5):  # an odd number of signs
        for parameter in net.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.isfinite().all() and not torch.equal(parameter, before[name]), name


@each
def test_rates_and_decay_are_those_of_the_groups(make):
    slow, fast = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = parameter_groups([("slow", slow, 0.1), ("fast", fast, 1.0)], weight_decay=0.1)
    optimizer = make(groups, lr=1.0, adam_ratio=0.5)
    found = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found == {
        "slow/matrices": pytest.approx((0.1, 0.1)), "slow/vectors": pytest.approx((0.05, 0.0)),
        "fast/matrices": pytest.approx((1.0, 0.1)), "fast/vectors": pytest.approx((0.5, 0.0)),
    }  # fmt: skip


def one_weight(value):
    return nn.Parameter(torch.tensor(value))


def group_of(parameter, decay=0.0):
    return [{"params": [parameter], "weight_decay": decay, "lr_scale": 1.0, "matrices": False, "name": "net/vectors"}]


def test_lion_by_hand():
    """The first sign is that of the gradient; the second that of 0.5 x momentum + 0.5 x gradient."""
    weight = one_weight([1.0, 2.0])
    optimizer = lion(group_of(weight, decay=0.5), lr=0.1, betas=(0.5, 0.9))
    weight.grad = torch.tensor([3.0, -1.0])
    optimizer.step()
    first = torch.tensor([0.95 - 0.1 * SCALE, 1.9 + 0.1 * SCALE])
    torch.testing.assert_close(weight.detach(), first)
    weight.grad = torch.tensor([-0.1, -0.5])  # momentum 0.3, -0.1
    optimizer.step()
    torch.testing.assert_close(weight.detach(), 0.95 * first + 0.1 * SCALE * torch.tensor([-1.0, 1.0]))


def test_schedule_free_by_hand():
    """The equations of the paper, x and z apart, with a warm-up whose rates weigh the mean."""
    rates, (beta1, beta2), decay = (0.05, 0.1, 0.1), (0.8, 0.9), 0.3
    y = one_weight([1.0, -2.0])
    optimizer = schedule_free(group_of(y, decay=decay), lr=0.1, betas=(beta1, beta2))
    x, z, square, total = y.detach().clone(), y.detach().clone(), torch.zeros(2), 0.0
    for step, rate in enumerate(rates, start=1):
        gradient = torch.tensor([0.5 * step, 1.0 - step])
        y.grad, optimizer.param_groups[0]["lr"] = gradient.clone(), rate
        point = (1 - beta1) * z + beta1 * x
        torch.testing.assert_close(y.detach(), point)
        optimizer.step()
        assert torch.equal(y.grad, gradient), "callbacks read it after the step"
        square = beta2 * square + (1 - beta2) * gradient**2
        update = gradient / ((square / (1 - beta2**step)).sqrt() + 1e-8) + decay * point
        z = z - rate * update
        total += max(rates[:step]) ** 2
        share = max(rates[:step]) ** 2 / total
        x = (1 - share) * x + share * z
        ((parameter, average),) = optimizer.averages()
        assert parameter is y
        torch.testing.assert_close(average, x)


def test_schedule_free_needs_an_average_in_the_weights():
    with pytest.raises(ValueError, match=r"optim.betas=\[0.0, 0.9\]"):
        schedule_free(group_of(one_weight([1.0])), lr=0.1, betas=(0.0, 0.9))


def soap_of(weight, **how):
    group = {"params": [weight], "weight_decay": 0.0, "lr_scale": 1.0, "matrices": True, "name": "net/matrices"}
    return soap([group | how.pop("group", {})], **({"lr": 0.1, "betas": (0.9, 0.99)} | SOAP | how))


def test_soap_is_adam_in_the_eigenbasis_of_its_first_gradient():
    """Until the bases move. Turned gradients in AdamW give turned weights."""
    torch.manual_seed(0)
    start, first = torch.randn(4, 3), torch.randn(4, 3)
    left, right = (torch.linalg.eigh(each).eigenvectors.flip(-1) for each in (first @ first.mT, first.mT @ first))
    weight, turned = nn.Parameter(start.clone()), nn.Parameter(left.mT @ start @ right)
    optimizer, adam = soap_of(weight, frequency=99), torch.optim.Adam([turned], lr=0.1, betas=(0.9, 0.99))
    weight.grad = first
    optimizer.step()
    assert torch.equal(weight, start), "the first gradient only makes the bases"
    for _ in range(5):
        weight.grad = torch.randn(4, 3)
        turned.grad = left.mT @ weight.grad @ right
        optimizer.step(), adam.step()
    torch.testing.assert_close(left.mT @ weight.detach() @ right, turned.detach(), atol=1e-4, rtol=1e-4)


def test_soaps_bases_become_the_eigenvectors_of_its_averages():
    torch.manual_seed(0)
    weight, scales = nn.Parameter(torch.randn(4, 3)), torch.tensor([8.0, 4.0, 2.0, 1.0])[:, None]
    optimizer = soap_of(weight, frequency=1)
    for _ in range(200):
        weight.grad = scales * torch.randn(4, 3)
        optimizer.step()
    state = optimizer.state[weight]
    basis = state["left_basis"][0]
    torch.testing.assert_close(basis.mT @ basis, torch.eye(4), atol=1e-5, rtol=0)
    values = basis.mT @ state["left"][0] @ basis
    assert (values - values.diag().diag()).norm() < 0.1 * values.norm()
    assert (values.diag().diff() < 0).all(), "the largest first"


def test_soap_leaves_a_long_side_as_it_is():
    weight = nn.Parameter(torch.randn(5, 3))
    optimizer = soap_of(weight, max_side=4)
    for _ in range(4):
        weight.grad = torch.randn(5, 3)
        optimizer.step()
    assert "left" not in optimizer.state[weight] and optimizer.state[weight]["right_basis"].shape == (1, 3, 3)


def test_stacked_matrices_step_as_if_each_were_a_parameter_of_its_own():
    torch.manual_seed(0)
    stacked = nn.Parameter(torch.randn(3, 6, 5))
    apart = [nn.Parameter(matrix.detach().clone()) for matrix in stacked]
    together = soap_of(stacked, group={"stacked": True})
    alone = [soap_of(matrix) for matrix in apart]
    for _ in range(5):
        stacked.grad = torch.randn(3, 6, 5)
        for matrix, gradient in zip(apart, stacked.grad, strict=True):
            matrix.grad = gradient.clone()
        for optimizer in (together, *alone):
            optimizer.step()
    torch.testing.assert_close(
        stacked.detach(), torch.stack([matrix.detach() for matrix in apart]), atol=1e-4, rtol=1e-4
    )


def test_what_is_no_matrix_takes_adamws_step_under_soap():
    nets = [small(), small()]
    how = {"lr": 1e-2, "betas": (0.95, 0.95), "adam_ratio": 0.5}
    optimizers = [soap(groups_of(nets[0]), **how, **SOAP), adamw(groups_of(nets[1]), **how)]
    for optimizer, net in zip(optimizers, nets, strict=True):
        for number, parameter in enumerate(net.parameters()):
            parameter.grad = torch.full_like(parameter, 1.0 + number)
        optimizer.step()
    assert torch.equal(nets[0][0].weight, nets[1][0].weight) and torch.equal(nets[0][1].bias, nets[1][1].bias)
