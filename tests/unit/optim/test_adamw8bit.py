"""States of a byte a number: how exact they are, what they take, and that a resumed run equals one that was not stopped."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from callbacks.estimate import optimizer_bytes
from muomni.optim.adamw8bit import AVERAGES, BLOCK, AdamW8bit, dequantize, dither, quantize
from muomni.optim.groups import parameter_groups
from muomni.optim.optimizers import adamw8bit

CPU = torch.device("cpu")


@pytest.mark.parametrize("signed", [True, False])
def test_numbers_come_back_to_within_a_step_of_an_eighth(signed):
    torch.manual_seed(0)
    x = torch.randn(8, BLOCK) * torch.logspace(-4, 0, BLOCK)  # within 2 ** -15 of the largest but for a few
    x = x if signed else x.square()
    codes, largest = quantize(x, dither(1, salt=0, device=CPU), signed=signed)
    assert codes.dtype == torch.uint8 and torch.equal(largest, x.abs().amax(dim=1, keepdim=True))
    back = dequantize(codes, largest, signed=signed)
    inside = x.abs() > largest * 2.0 ** (-15 if signed else -31)
    assert ((back - x).abs() <= x.abs() / 8)[inside].all() and inside.float().mean() > 0.9
    assert (back * x >= 0).all() and torch.equal(back[x.abs() == largest], x[x.abs() == largest])


def test_zero_is_exact_and_a_small_square_does_not_become_zero():
    square = torch.zeros(2, BLOCK)
    square[0, :3] = torch.tensor([1.0, 1e-30, 1e-38])
    back = dequantize(*quantize(square, dither(5, salt=1, device=CPU), signed=False), signed=False)
    assert torch.equal(back > 0, square > 0) and not back[1].any()
    mean = -square
    assert not dequantize(*quantize(mean[1:], dither(5, salt=0, device=CPU), signed=True), signed=True).any()


def test_averages_follow_changes_smaller_than_a_step():
    """Rounded to the nearest, numbers that shrink by 2 % would stand still."""
    start = torch.linspace(0.1, 1, BLOCK)[None]
    codes, largest = quantize(start, dither(0, salt=1, device=CPU), signed=False)
    for step in range(1, 150):
        shrunk = dequantize(codes, largest, signed=False) * 0.98
        codes, largest = quantize(shrunk, dither(step, salt=1, device=CPU), signed=False)
    ratio = dequantize(codes, largest, signed=False) / (start * 0.98**149)
    assert ratio.mean().item() == pytest.approx(1, abs=0.02) and ratio.std() < 0.1


def model():
    torch.manual_seed(0)
    return nn.ModuleDict({"embedding": nn.Embedding(100, 65), "up": nn.Linear(65, 100), "head": nn.Linear(100, 65)})


def optimizer_of(module, **options):
    groups = parameter_groups([("toy", module, 1.0)], weight_decay=0.1)
    return adamw8bit(groups, lr=1e-2, betas=(0.9, 0.98), adam_ratio=0.5, **options)


def steps(module, optimizer, numbers):
    for number in numbers:
        torch.manual_seed(number)
        ids = torch.randint(100, (16,))
        loss = (
            (module["head"](module["up"](module["embedding"](ids)).relu()) - module["embedding"](ids)).square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_a_resumed_run_goes_on_bit_for_bit():
    """Matrices of 6500 numbers, which are no whole blocks; vectors in float32."""
    whole = model()
    first = optimizer_of(whole)
    steps(whole, first, range(12))
    stopped = model()
    steps(stopped, before := optimizer_of(stopped), range(5))
    file = io.BytesIO()
    torch.save((stopped.state_dict(), before.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed = model()
    resumed.load_state_dict(weights)
    after = optimizer_of(resumed)
    after.load_state_dict(state)
    steps(resumed, after, range(5, 12))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    kept = {name: first.state[parameter]["exp_avg"].dtype for name, parameter in whole.named_parameters()}
    assert {name for name, dtype in kept.items() if dtype == torch.uint8} == {"up.weight", "head.weight"}


def test_it_takes_what_it_says_and_learns_as_much():
    module = model()
    optimizer = optimizer_of(module)
    loss = steps(module, optimizer, range(60))
    tensors = [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    assert sum(each.nbytes for each in tensors) == optimizer_bytes(optimizer)
    matrix = {"eight_bit": True}
    assert optimizer.state_bytes(torch.empty(1024, 1024), matrix) < 0.26 * 2 * 4 * 1024**2
    plain = model()
    groups = parameter_groups([("toy", plain, 1.0)], weight_decay=0.1)
    for group in groups:
        group["lr"] = 1e-2 * (1 if group["matrices"] else 0.5)
    assert loss == pytest.approx(steps(plain, AdamW(groups, betas=(0.9, 0.98)), range(60)), rel=0.05)


def test_parameters_in_float32_take_adamws_own_step():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(5))]
    theirs = copy.deepcopy(ours)
    options = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-8}
    own = AdamW8bit([{"params": ours, "weight_decay": 0.1, "eight_bit": True}], **options)
    other = AdamW([{"params": theirs, "weight_decay": 0.1}], **options)
    for number in range(5):
        for a, b in zip(ours, theirs, strict=True):
            torch.manual_seed(number)
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        own.step(), other.step()
    torch.testing.assert_close(ours, theirs)
    assert set(AVERAGES) < set(own.state[ours[0]])
