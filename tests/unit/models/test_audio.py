"""Audio encoder: the reference's size, padding, order."""

import pytest
import torch

from muomni.models.audio import Audio


def build(**options):
    torch.manual_seed(0)
    shape = {"n_mels": 16, "num_symbols": 9, "channels": 4, "downsample": 4, "dim": 32, "num_layers": 2, "num_heads": 2}
    return Audio(**(shape | {"ff_dim": 48, "conv_kernel": 5} | options)).eval()


def test_reference_parameters():
    model = Audio(
        n_mels=128, num_symbols=99, channels=64, downsample=4, dim=192, num_layers=4, num_heads=3, ff_dim=768,
        conv_kernel=0, rope_theta=None,
    )  # fmt: skip
    assert sum(p.numel() for p in model.encoder.parameters()) == 2_209_088
    assert model(torch.zeros(1, 100, 128)).hidden.shape == (1, 25, 192)


@pytest.mark.parametrize("downsample", [4, 8])
@pytest.mark.parametrize("kernel", [0, 5])
def test_padding_never_changes_a_valid_frame(downsample, kernel):
    model = build(downsample=downsample, conv_kernel=kernel)
    mel = torch.randn(2, 61, 16)
    mel[1, 43:] = 1e3  # what lies behind the shorter row must not matter
    output = model(mel, torch.tensor([61, 43]))
    alone = model(mel[1:, :43])
    assert output.lengths.tolist() == [-(-61 // downsample), -(-43 // downsample)]
    torch.testing.assert_close(output.logits[1, : alone.logits.shape[1]], alone.logits[0], atol=1e-5, rtol=1e-4)


def test_positions_tell_order():
    frames = torch.randn(1, 40, 16)
    frames = torch.cat([frames, frames], dim=1)  # the same sound twice

    def halves_agree(model):
        hidden = model(frames).hidden[0]
        return torch.allclose(hidden[3:8], hidden[13:18], atol=1e-5)

    assert halves_agree(build(conv_kernel=0, rope_theta=None))
    assert not halves_agree(build(conv_kernel=0, rope_theta=10000.0))


def test_wrong_downsample_is_refused():
    with pytest.raises(ValueError, match="downsample must be"):
        build(downsample=6)


def test_the_head_writes_after_earlier_blocks_too():
    model = build(num_layers=3)
    mel, lengths = torch.randn(2, 40, 16), torch.tensor([40, 31])
    plain, tapped = model(mel, lengths), model(mel, lengths, after_blocks=(1, 2))
    torch.testing.assert_close(plain.logits, tapped.logits)
    assert plain.intermediate == []
    assert [each.shape for each in tapped.intermediate] == [plain.logits.shape] * 2
    model.encoder.transformer.blocks = model.encoder.transformer.blocks[:1]
    torch.testing.assert_close(tapped.intermediate[0], model(mel, lengths).logits)
