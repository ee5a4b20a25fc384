"""The operators for weights in groups, against what these stand for; each set of instructions that this machine has."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

from muomni.inference.decoding import int4, packed_linear
from muomni.inference.decoding.native import library
from muomni.inference.decoding.weight_only import PACKED

SHAPES = [(1, 1), (16, 32), (37, 24), (65, 129), (130, 577)]  # outputs, inputs
LARGEST = 127 * 128 + 63  # number that an input is rounded to


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture(params=PACKED)
def name(request):
    if not library.available():
        pytest.skip("no C++ compiler")
    return request.param


@pytest.fixture
def layer_type(name):
    return PACKED[name]


@pytest.fixture
def multiply(name):
    return getattr(torch.ops.muomni, PACKED[name].operator)


def rounded(x):
    """x (M, K), each group as the operator rounds it: the largest number is LARGEST, halves go to even."""
    groups = F.pad(x, (0, -x.shape[1] % packed_linear.GROUP)).view(len(x), -1, packed_linear.GROUP)
    size = groups.abs().amax(2, keepdim=True)
    numbers = (groups * (LARGEST / size).where(size > 0, 0)).round()
    return (numbers.double() * (size.double() / LARGEST)).flatten(1)[:, : x.shape[1]]


def check_products(multiply, layer_type):
    for outputs, inputs in SHAPES:
        weight = random(outputs, inputs)
        packed = layer_type.pack(weight)
        kept = layer_type.unpack(*packed)[:outputs, :inputs].double()
        for rows in (1, 2, 3, 4, 5, 6, 7, 8, 9, 17):
            x = random(rows, inputs)
            x[:, :8] *= 100  # groups of unlike sizes
            x[rows // 2, : inputs // 2] = 0
            got, exact = multiply(x, *packed, outputs).double(), F.linear(rounded(x), kept)
            size = x.double().norm(dim=1)[:, None] * kept.norm(dim=1)
            assert got.shape == exact.shape
            torch.testing.assert_close(got / size, exact / size, rtol=0, atol=2e-6)


def test_the_operator_multiplies_rounded_inputs_by_the_weights_that_are_kept(multiply, layer_type):
    check_products(multiply, layer_type)


@pytest.mark.slow  # a compiler
@pytest.mark.parametrize("level", library.LEVELS)
def test_every_level_of_this_machine_computes_the_same_bits(level, tmp_path):
    """Integers are exact: only float32 sums of groups are, and these have one order."""
    if not library.has(level):
        pytest.skip(f"this processor has no {level}")
    assert library.available()
    library.build(tmp_path / "operators.so", level, namespace=f"muomni_{level}")
    ctypes.CDLL(str(tmp_path / "operators.so"))
    for layer_type in PACKED.values():
        operator = getattr(getattr(torch.ops, f"muomni_{level}"), layer_type.operator)
        check_products(operator, layer_type)
        packed, x = layer_type.pack(random(40, 320)), random(9, 320)
        here = getattr(torch.ops.muomni, layer_type.operator)(x, *packed, 40)
        torch.testing.assert_close(operator(x, *packed, 40), here, rtol=1e-6, atol=1e-5)


def sum_of_groups(x, weight):
    """x (M, K), weight (N, K) of integers: float32 sums of each group's exact product."""
    found = torch.zeros(len(x), len(weight))
    for group in range(0, x.shape[1], packed_linear.GROUP):
        part = slice(group, group + packed_linear.GROUP)
        found += F.linear(x[:, part].double(), weight[:, part].double()).float()
    return found


def test_integers_are_multiplied_exactly(multiply, layer_type):
    """Weights and inputs that rounding keeps: every level of a weight meets both signs, in every row and panel."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor(int4.LEVELS) if layer_type is int4.Int4Linear else torch.arange(-128, 128)
    weight = levels[torch.randint(len(levels), (50, 96), generator=generator)].float()
    weight[:, ::8] = levels[0]
    packed = layer_type.pack(weight)
    assert torch.equal(layer_type.unpack(*packed)[:50], weight)
    x = torch.randint(-LARGEST, LARGEST + 1, (19, 96), generator=generator).float()
    x[:, ::16] = LARGEST
    assert torch.equal(multiply(x, *packed, 50), sum_of_groups(x, weight))


def test_extremes_do_not_overflow(multiply, layer_type):
    for value in (1.0, -1.0, 1e30, 1e-30):
        x, weight = torch.full((2, 4096), value), torch.full((16, 4096), -value / abs(value))
        torch.testing.assert_close(multiply(x, *layer_type.pack(weight), 16), x @ weight.T, rtol=1e-2, atol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_not_hidden(bad, multiply, layer_type):
    x, weight = random(3, 40), random(5, 40)
    packed = layer_type.pack(weight)
    x[1, 35] = bad
    got = multiply(x, *packed, 5)
    assert got[1].isnan().all() and got[[0, 2]].isfinite().all()
    weight[2, 7] = bad
    got = multiply(x[[0, 2]], *layer_type.pack(weight), 5)
    assert not got[:, 2].isfinite().any() and got[:, [0, 1, 3, 4]].isfinite().all()


def test_rows_do_not_depend_on_their_company(multiply, layer_type):
    x, packed = random(19, 100), layer_type.pack(random(50, 100))
    together = multiply(x, *packed, 50)
    assert torch.equal(together, torch.cat([multiply(row[None], *packed, 50) for row in x]))


def test_leading_dimensions_stay_and_no_rows_are_none(multiply, layer_type):
    x, packed = random(2, 3, 40), layer_type.pack(random(5, 40))
    assert torch.equal(multiply(x, *packed, 5), multiply(x.view(6, 40), *packed, 5).view(2, 3, 5))
    assert multiply(x[:0], *packed, 5).shape == (0, 3, 5)
    assert multiply(x[0, 0], *packed, 5).shape == (5,)


def test_threads_share_the_outputs(multiply, layer_type):
    x, packed = random(2, 512), layer_type.pack(random(3001, 512))
    alone = multiply(x, *packed, 3001)
    torch.set_num_threads(2)
    try:
        assert torch.equal(multiply(x, *packed, 3001), alone)
    finally:
        torch.set_num_threads(1)


def test_what_does_not_fit_is_refused(multiply, layer_type):
    packed = layer_type.pack(random(20, 64))
    for x, outputs, why in (
        (random(2, 32), 20, "rounded up to a multiple of 32"),
        (random(2, 65), 20, "rounded up to a multiple of 32"),
        (random(2, 64), 33, "outputs that fill P panels"),
        (random(2, 64), 16, "outputs that fill P panels"),
        (random(2, 64).double(), 20, "x must be float32"),
        (random(64, 2).T, 20, "x must be contiguous"),
    ):
        with pytest.raises(RuntimeError, match=why):
            multiply(x, *packed, outputs)


def test_weights_of_another_width_are_refused(multiply, layer_type):
    other = next(each for each in PACKED.values() if each is not layer_type)
    with pytest.raises(RuntimeError, match="rounded up to a multiple of 32"):
        multiply(random(2, 64), *other.pack(random(20, 64)), 20)


def test_a_layer_computes_the_same_with_and_without_the_operator(layer_type, monkeypatch):
    linear = torch.nn.Linear(100, 37)
    layer, x = layer_type(linear.weight, linear.bias), random(2, 3, 100)
    expected = x @ layer.weight().T + linear.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(library, "_found", [False])
    torch.testing.assert_close(layer(x), expected)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
