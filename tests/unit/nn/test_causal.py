"""Causal blocks: what they compute, and that pieces are the whole."""

import pytest
import torch
import torch.nn.functional as F

from muomni.nn.causal import CausalBlock, CausalConv, by_rows


def test_the_convolution_is_torchs():
    torch.manual_seed(0)
    conv, x = CausalConv(5, kernel=4), torch.randn(2, 9, 5)
    conv.bias.data = torch.randn(5)
    theirs = F.conv1d(F.pad(x.mT, (3, 0)), conv.weight.T[:, None], conv.bias, groups=5).mT
    torch.testing.assert_close(conv(x, state={}, name="a"), theirs)


@pytest.mark.parametrize("kernel", [1, 2, 7])
def test_pieces_of_any_size_are_the_whole(kernel):
    torch.manual_seed(0)
    block, x = CausalBlock(16, kernel=kernel, hidden=24), torch.randn(1, 30, 16)
    whole = block(x, state={}, name="a")
    for sizes in ([1] * 30, [2, 9, 1, 18], [30]):
        state = {}
        pieces = [block(piece, state=state, name="a") for piece in x.split(sizes, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-6, rtol=0)


def test_what_comes_later_changes_nothing():
    block, x = CausalBlock(8, kernel=3, hidden=8), torch.randn(1, 12, 8)
    later = x.clone()
    later[:, 7:] = 1e3
    before, after = block(x, state={}, name="a"), block(later, state={}, name="a")
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.equal(before[:, 7], after[:, 7])


def test_a_few_rows_are_computed_as_among_many():
    layer, x = torch.nn.Linear(64, 48), torch.randn(1, 50, 64)
    seen = []
    by_rows(lambda rows: seen.append(rows.shape[1]) or layer(rows), x[:, :2])
    assert seen == [4] and by_rows(layer, x[:, :2]).shape == (1, 2, 48)
    torch.testing.assert_close(by_rows(layer, x[:, :2]), layer(x)[:, :2])
