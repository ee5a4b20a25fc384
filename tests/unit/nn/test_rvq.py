"""Residual quantiser: nearest entries, averages, renewal, guards."""

import pytest
import torch

from muomni.nn.rvq import ResidualQuantizer, exact_product, nearest
from tests.unit.optim.rounded import Rounded


def build(**options):
    torch.manual_seed(0)
    shape = {"dim": 6, "num_codebooks": 3, "codebook_size": 8, "decay": 0.5, "dropout": 0.0, "idle": 0.0}
    return ResidualQuantizer(**(shape | options))


def test_nearest_is_the_euclidean_one():
    vectors, entries = torch.randn(50, 6), torch.randn(8, 6)
    assert torch.equal(nearest(vectors, entries), torch.cdist(vectors, entries).argmin(1))


def test_under_autocast_the_codes_are_those_of_float32():
    vectors, entries = torch.randn(2000, 16), torch.randn(256, 16)
    quantizer, x = build(dim=16, codebook_size=256).eval(), torch.randn(4, 100, 16)
    found, codes, trained = nearest(vectors, entries), quantizer.encode(x), quantizer(x, keep=None).codes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest(vectors, entries), found)
        assert torch.equal(nearest(vectors.bfloat16(), entries), nearest(vectors.bfloat16().float(), entries))
        assert torch.equal(quantizer.encode(x), codes)
        assert torch.equal(quantizer(x, keep=None).codes, trained)


def test_products_are_exact_where_factors_are_rounded():
    a, b = torch.randn(200, 32), torch.randn(32, 64)
    wanted = a.double() @ b.double()
    with Rounded(10):
        exact, plain = exact_product(a, b), a @ b
    assert (exact - wanted).abs().max() < 2e-5 < 1e-3 < (plain - wanted).abs().max()


def test_each_codebook_takes_what_is_left():
    quantizer = build().eval()
    x = torch.randn(2, 5, 6)
    codes = quantizer.encode(x)
    residual = x.clone()
    for k in range(3):
        index = torch.cdist(residual.view(-1, 6), quantizer.codebooks[k]).argmin(1).view(2, 5)
        assert torch.equal(codes[..., k], index)
        residual = residual - quantizer.codebooks[k][index]
    torch.testing.assert_close(quantizer.decode(codes), x - residual)
    torch.testing.assert_close(quantizer(x, keep=None).quantized, x - residual)


def test_more_codebooks_and_more_entries_come_nearer():
    """Each codebook and each doubling of its entries lowers what is left over."""
    left = {}
    for shape in ((1, 8), (2, 8), (3, 8), (1, 32)):
        quantizer = build(num_codebooks=shape[0], codebook_size=shape[1]).train()
        x = torch.randn(4, 200, 6)
        for _ in range(20):
            quantizer(x, keep=None)
        left[shape] = (quantizer.eval()(x, keep=None).quantized - x).square().mean()
    assert left[3, 8] < left[2, 8] < left[1, 8] and left[1, 32] < left[1, 8]


def test_batched_decode_equals_frame_by_frame_and_takes_fewer_codebooks():
    quantizer = build().eval()
    codes = torch.randint(8, (2, 5, 2))
    frames = [quantizer.decode(codes[:, t : t + 1]) for t in range(5)]
    torch.testing.assert_close(quantizer.decode(codes), torch.cat(frames, dim=1))
    with pytest.raises(ValueError, match="4 codebooks"):
        quantizer.decode(torch.zeros(1, 1, 4, dtype=torch.long))


def test_averages_follow_the_data_and_padding_does_not_count():
    quantizer = build(num_codebooks=1, codebook_size=2, decay=0.5).train()
    quantizer.started.fill_(True)
    centres = torch.tensor([[4.0] * 6, [-4.0] * 6])
    quantizer.codebooks[0] = centres / 4
    quantizer.sums[0] = centres / 4
    x = centres[torch.randint(2, (1, 40))]
    x[:, 30:] = 900.0
    keep = torch.arange(40)[None] < 30
    for _ in range(20):
        output = quantizer(x, keep=keep)
    torch.testing.assert_close(quantizer.codebooks[0], centres, atol=0.01, rtol=0)
    assert output.commitment < 1e-3


def test_idle_entries_are_drawn_anew():
    quantizer = build(num_codebooks=1, idle=0.1).train()
    quantizer.started.fill_(True)
    quantizer.codebooks[0] = 100.0
    quantizer.codebooks[0, 0] = 0.0
    x = torch.randn(4, 100, 6)
    for _ in range(30):
        output = quantizer(x, keep=None)
    assert output.codes.unique().numel() == 8


def test_a_batch_that_is_not_finite_moves_no_codebook():
    quantizer = build().train()
    quantizer(torch.randn(2, 50, 6), keep=None)
    before = quantizer.codebooks.detach().clone()
    quantizer(torch.full((2, 50, 6), float("nan")), keep=None)
    assert torch.equal(before, quantizer.codebooks)


def test_dropout_uses_the_first_codebooks_only():
    quantizer = build(dropout=1.0).train()
    x = torch.randn(64, 1, 6)
    quantizer(x, keep=None)
    torch.manual_seed(1)
    quantizer.decay = None  # hold the codebooks still for the comparison
    quantized, codes = (output := quantizer(x, keep=None)).quantized, output.codes
    used = [torch.allclose(quantizer.decode(codes[..., :n]), quantized) for n in (1, 2, 3)]
    errors = torch.stack([(quantizer.decode(codes[..., :n]) - quantized).abs().amax(-1) for n in (1, 2, 3)])
    assert not any(used)
    assert errors[:2].amin(0).max() < 1e-5  # every row stopped at one or two codebooks


def test_gradients():
    x = torch.randn(2, 5, 6, requires_grad=True)
    by_average, by_gradient = build(), build(decay=None)
    output = by_average(x, keep=None)
    output.quantized.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))  # straight through
    assert not by_average.codebooks.requires_grad
    by_gradient(x, keep=None).commitment.backward()
    assert by_gradient.codebooks.grad.abs().sum() > 0


def test_codebooks_do_not_start_from_a_broken_batch():
    """Averages are no gradients: what they once follow stays. They start from the next batch that is whole."""
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(dim=4, num_codebooks=2, codebook_size=8, decay=0.9, dropout=0.0, idle=0.1).train()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    broken = torch.randn(2, 6, 4)
    broken[1, 2, 3] = float("nan")
    quantizer(broken, keep=None)
    assert all(torch.equal(before[key], value) for key, value in quantizer.state_dict().items())
    quantizer(torch.randn(2, 6, 4), keep=None)
    assert bool(quantizer.started)
    assert all(torch.isfinite(value).all() for value in quantizer.state_dict().values())
