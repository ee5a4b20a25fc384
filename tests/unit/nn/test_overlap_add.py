import pytest
import torch

from muomni.nn.overlap_add import overlap_add


@pytest.mark.parametrize(("length", "hop"), [(4, 2), (5, 2), (3, 3), (7, 3)])
def test_each_frame_lies_hop_samples_behind_the_one_before(length, hop):
    frames = torch.randn(2, 6, length)
    expected = torch.zeros(2, 5 * hop + length)
    for t in range(6):
        expected[:, t * hop : t * hop + length] += frames[:, t]
    torch.testing.assert_close(overlap_add(frames, hop=hop), expected)
