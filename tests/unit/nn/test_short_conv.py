"""The short convolution: by hand, at first the identity, never the future, padding as zeros."""

import pytest
import torch

from muomni.nn.context import AttentionContext
from muomni.nn.masks import DenseMask, PaddingMask, SegmentMask
from muomni.nn.short_conv import ShortConv


def test_by_hand():
    conv = ShortConv(1, kernel=3)
    conv.weight.data = torch.tensor([[1.0], [10.0], [100.0]])
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1)
    assert conv(x).flatten().tolist() == [1, 12, 123, 234]


def test_at_first_it_changes_nothing():
    x = torch.randn(2, 7, 5)
    torch.testing.assert_close(ShortConv(5, kernel=4)(x), x)


def test_padding_counts_as_zeros():
    conv = ShortConv(1, kernel=3)
    conv.weight.data = torch.tensor([[1.0], [10.0], [100.0]])
    x = torch.tensor([9.0, 9.0, 3.0, 4.0]).view(1, 4, 1)
    keep = torch.tensor([[False, False, True, True]])
    assert conv(x, AttentionContext(mask=PaddingMask(keep))).flatten().tolist()[2:] == [3, 34]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_rows_shorter_than_the_kernel(length):
    conv = ShortConv(1, kernel=4)
    conv.weight.data = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
    x = torch.arange(1.0, length + 1).view(1, length, 1)
    one = torch.zeros(1, length, dtype=torch.long)
    expected = [1, 12, 123][:length]
    visible = torch.ones(1, length, length, dtype=torch.bool).tril()
    masks = (None, PaddingMask(one == 0), DenseMask(visible), SegmentMask(one), SegmentMask(one, one))
    for mask in masks:
        assert conv(x, AttentionContext(mask=mask)).flatten().tolist() == expected


@pytest.mark.parametrize("kernel", [-1, 0, 1])
def test_a_kernel_that_mixes_nothing_is_refused(kernel):
    with pytest.raises(ValueError, match="at least 2"):
        ShortConv(4, kernel=kernel)


def test_skipped_tokens_neither_mix_nor_are_mixed():
    conv = ShortConv(1, kernel=3)
    conv.weight.data = torch.tensor([[1.0], [10.0], [100.0]])
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).view(1, 5, 1)
    skip = torch.tensor([[False, True, True, False, False]])
    assert conv(x, AttentionContext(conv_skip=skip)).flatten().tolist() == [1, 2, 3, 4, 45]
