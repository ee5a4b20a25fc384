"""Convolutions over time: lengths, and silence beyond them."""

import pytest
import torch

from muomni.nn.conv import AudioStem, ConvNeXtBlock, TimeConv, frame_mask, silence
from muomni.nn.norm import RMSNorm


def test_frame_mask_and_silence():
    keep = frame_mask(torch.tensor([3, 1]), 3)
    assert keep.tolist() == [[True, True, True], [True, False, False]]
    x = torch.ones(2, 3, 4)
    assert silence(x, keep).sum() == 16
    assert silence(x, None) is x


@pytest.mark.parametrize(("downsample", "frames", "expected"), [(2, 7, 4), (4, 100, 25), (4, 101, 26), (8, 100, 13)])
def test_stem_frames(downsample, frames, expected):
    stem = AudioStem(n_mels=12, channels=2, dim=6, downsample=downsample)
    assert stem(torch.zeros(1, frames, 12), None).shape == (1, expected, 6)
    assert stem.out_lengths(torch.tensor([frames])).item() == expected


def test_time_convolution_sees_nothing_beyond_the_length():
    torch.manual_seed(0)
    conv = TimeConv(4, kernel=5)
    x = torch.randn(1, 9, 4)
    keep = frame_mask(torch.tensor([6]), 9)
    torch.testing.assert_close(conv(x, keep=keep)[:, :6], conv(x[:, :6], keep=None))
    with pytest.raises(ValueError, match="kernel must be odd"):
        TimeConv(4, kernel=4)


def test_convnext_is_residual():
    block = ConvNeXtBlock(4, kernel=3, hidden=8, norm=lambda: RMSNorm(4, eps=1e-5))
    torch.nn.init.zeros_(block.mlp.down.weight)
    torch.nn.init.zeros_(block.mlp.down.bias)
    x = torch.randn(2, 5, 4)
    assert torch.equal(block(x, keep=None), x)
