"""Finite scalar quantiser: every entry is another vector, gradients pass, groups are dropped from the end."""

import pytest
import torch

from muomni.nn.fsq import FiniteScalarQuantizer, levels_of


def build(**options):
    torch.manual_seed(0)
    return FiniteScalarQuantizer(**({"dim": 6, "num_codebooks": 3, "codebook_size": 16, "dropout": 0.0} | options))


def test_levels():
    assert [levels_of(size) for size in (2, 8, 16, 512, 1024)] == [[2], [8], [4, 4], [8, 4, 4, 4], [4] * 5]
    for size in (1, 12, 1000):
        with pytest.raises(ValueError, match=f"codebook_size must be a power of 2, not {size}"):
            levels_of(size)


@pytest.mark.parametrize("size", [2, 16, 128])
def test_every_code_stands_for_a_vector_of_its_own(size):
    quantizer = build(dim=8, num_codebooks=1, codebook_size=size)
    codes = torch.arange(size).view(1, -1, 1)
    vectors = quantizer.decode(codes)[0]
    assert torch.pdist(vectors).min() > 1e-3
    back = torch.linalg.pinv(quantizer.proj_out.weight.data)  # to the numbers, in -1..1, and to what tanh makes them of
    numbers = torch.atanh(0.99 * (vectors - quantizer.proj_out.bias) @ back.T)
    quantizer.proj_in = torch.nn.Identity()
    assert torch.equal(quantizer.encode(numbers[None]), codes)


def test_rounding_takes_the_nearest_level():
    """By hand: four levels at 0 to 3, of tanh times 1.001 brought to that range."""
    quantizer = build(dim=2, num_codebooks=1, codebook_size=16)
    quantizer.proj_in.weight.data, quantizer.proj_in.bias.data = torch.eye(2), torch.zeros(2)
    x = torch.tensor([[[-9.0, 9.0], [0.1, -0.2], [0.9, -0.9]]])  # levels 0, 3; 2, 1; 3, 0
    assert quantizer.encode(x).tolist() == [[[0 + 4 * 3], [2 + 4 * 1], [3 + 4 * 0]]]


def test_the_halves_are_the_forward_and_autocast_changes_nothing():
    quantizer, x = build(), torch.randn(2, 7, 6)
    codes, output = quantizer.encode(x), quantizer(x, keep=None)
    assert torch.equal(codes, output.codes) and float(output.commitment) == 0
    assert torch.equal(quantizer.decode(codes), output.quantized)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer(x, keep=None).codes, codes)


def test_gradients_pass_the_rounding():
    quantizer, x = build(), torch.randn(1, 4, 6, requires_grad=True)
    quantizer(x, keep=None).quantized.square().sum().backward()
    assert bool(x.grad.any()) and all(bool(p.grad.any()) for p in quantizer.parameters())


def test_rows_drop_their_last_codebooks():
    quantizer, x = build(dropout=1.0).train(), torch.randn(40, 3, 6)
    output = quantizer(x, keep=None)
    fewer = [quantizer.decode(output.codes[..., :n]) for n in (1, 2)]
    first = [torch.isclose(output.quantized, each, atol=1e-6).flatten(1).all(1) for each in fewer]
    assert bool((first[0] ^ first[1]).all()) and 5 < int(first[0].sum()) < 35
    with pytest.raises(ValueError, match="codes of 4 codebooks, but the codec has 3"):
        quantizer.decode(torch.zeros(1, 1, 4, dtype=torch.long))
