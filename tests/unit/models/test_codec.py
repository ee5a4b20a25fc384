"""Codec: the reference's size, padding, the two ways through it."""

import torch

from muomni.models.codec import Codec

SMALL = {
    "n_mels": 16, "stride": 4, "dim": 8, "num_codebooks": 3, "codebook_size": 12, "num_layers": 2, "width": 24,
    "kernel": 3, "ff_dim": 32, "decay": 0.9, "dropout": 0.0, "idle": 0.0,
}  # fmt: skip


def build(**options):
    torch.manual_seed(0)
    return Codec(**(SMALL | options)).eval()


def test_reference_parameters_and_frame_by_frame():
    codec = Codec(
        n_mels=128, stride=1, dim=64, num_codebooks=2, codebook_size=128, num_layers=0, width=0, kernel=0, ff_dim=0,
        decay=None, dropout=0.0, idle=0.0,
    ).eval()  # fmt: skip
    assert sum(p.numel() for p in codec.parameters()) == 32_960
    codes = codec.encode(torch.randn(2, 50, 128))
    assert codes.shape == (2, 50, 2)
    one_by_one = torch.cat([codec.decode(codes[:, t : t + 1]) for t in range(50)], dim=1)
    torch.testing.assert_close(codec.decode(codes), one_by_one)


def test_padding_never_changes_a_valid_frame():
    codec = build()
    mel = torch.randn(2, 30, 16)
    mel[1, 22:] = 50.0
    lengths = torch.tensor([30, 22])
    output, alone = codec(mel, lengths), codec(mel[1:, :22])
    assert output.mel.shape == mel.shape
    torch.testing.assert_close(output.mel[1, :22], alone.mel[0])
    assert torch.equal(output.codes[1, :6], alone.codes[0])


def test_codes_under_autocast_are_those_of_float32():
    """The Talker's targets are computed within its step."""
    codec, mel = build(codebook_size=200), torch.randn(4, 400, 16)
    codes = codec.encode(mel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(codec.encode(mel), codes)


def test_encode_and_decode_are_the_halves_of_forward():
    codec = build()
    mel, lengths = torch.randn(2, 30, 16), torch.tensor([30, 22])
    output = codec(mel, lengths)
    codes = codec.encode(mel, lengths)
    rebuilt = codec.decode(codes, codec.code_lengths(lengths))
    assert torch.equal(codes, output.codes)
    assert rebuilt.shape == (2, 32, 16)
    torch.testing.assert_close(rebuilt[:, :30], output.mel)


def test_more_codebooks_change_the_sound():
    codec = build()
    codes = codec.encode(torch.randn(1, 16, 16))
    assert not torch.allclose(codec.decode(codes[..., :1]), codec.decode(codes))
