"""The codec of waveforms from random weights: streams in any chunks are the whole, and the transforms of both sides meet."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.checkpoints.export import load_export, save_export
from muomni.models.fourier_codec import FourierCodec

SMALL = {
    "sample_rate": 1600, "hop": 64, "stride": 4, "overlap": 4, "quantizer": "rvq", "dim": 8, "num_codebooks": 3,
    "codebook_size": 32, "num_layers": 1, "frame_layers": 1, "width": 64, "kernel": 3, "ff_dim": 64, "decay": 0.9,
    "dropout": 0.0, "idle": 0.0,
}  # fmt: skip
AS_SHIPPED = {"width": 256, "ff_dim": 512, "kernel": 7, "hop": 640, "codebook_size": 1024, "dim": 64}
SHAPES = ({}, {"quantizer": "fsq"}, {"stride": 2}, {"stride": 1, "overlap": 6, "kernel": 1}, AS_SHIPPED)


def build(**options):
    torch.manual_seed(0)
    codec = FourierCodec(**(SMALL | options)).eval()
    with torch.no_grad():
        codec.encoder.proj_out.weight *= 4  # so that codes differ
    return codec


CODECS = [build(**options) for options in SHAPES]


def cut(total, borders):
    """0..total in pieces."""
    points = sorted({0, total, *(border % total for border in borders)})
    return list(zip(points, points[1:], strict=False))


@settings(deadline=None, max_examples=25)
@given(
    number=st.integers(0, len(CODECS) - 1),
    frames=st.integers(1, 40),
    borders=st.lists(st.integers(0, 10**4), max_size=12),
)
@torch.inference_mode()
def test_blocks_of_any_size_are_the_whole(number, frames, borders):
    codec, state = CODECS[number], {}
    codes = torch.randint(32, (1, frames, 2), generator=torch.Generator().manual_seed(frames))
    whole = codec.decode(codes)
    assert whole.shape == (1, frames * codec.hop) and whole.dtype == torch.float32
    blocks = [codec.decode_block(codes[:, a:b], 0, b - a, state=state) for a, b in cut(frames, borders)]
    torch.testing.assert_close(torch.cat(blocks, dim=1), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="how a library multiplies few rows is its own"
)
@torch.inference_mode()
@pytest.mark.parametrize("sizes", [[1] * 40, [3, 11, 1, 25], [20, 20]], ids=["frame by frame", "uneven", "halves"])
def test_blocks_are_the_whole_to_the_bit_at_the_size_that_is_shipped(sizes):
    codec, codes, state = CODECS[-1], torch.randint(1024, (1, 40, 3)), {}
    blocks = [codec.decode_block(block, 0, block.shape[1], state=state) for block in codes.split(sizes, dim=1)]
    assert torch.equal(torch.cat(blocks, dim=1), codec.decode(codes))


@settings(deadline=None, max_examples=25)
@given(
    number=st.integers(0, len(CODECS) - 1),
    samples=st.integers(1, 2000),
    borders=st.lists(st.integers(0, 10**4), max_size=12),
)
@torch.inference_mode()
def test_recordings_in_chunks_of_any_size_have_the_codes_of_the_whole(number, samples, borders):
    codec, state = CODECS[number], {}
    waveform = 0.3 * torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    whole = codec.encode(waveform)
    assert (
        whole.shape == (1, -(-samples // codec.hop), 3)
        and int(codec.code_lengths(torch.tensor(samples))) == whole.shape[1]
    )
    pieces = cut(samples, borders)
    codes = [codec.encode_block(waveform[:, a:b], state=state, last=b == samples) for a, b in pieces]
    assert torch.equal(torch.cat(codes, dim=1), whole)
    known = [max(0, b - codec.look_ahead) // codec.hop for _, b in pieces[:-1]]
    assert [sum(each.shape[1] for each in codes[:n]) for n in range(1, len(codes))] == known, "as early as can be"


@torch.inference_mode()
def test_a_frame_depends_on_nothing_later():
    codec, codes = CODECS[0], torch.randint(32, (1, 20, 3))
    changed = codes.clone()
    changed[:, 12:] = 0
    a, b = codec.decode(codes), codec.decode(changed)
    assert torch.equal(a[:, : 12 * 64], b[:, : 12 * 64]) and not torch.equal(a[:, 12 * 64 :], b[:, 12 * 64 :])
    waveform = torch.randn(1, 64 * 20)
    cut_off = waveform.clone()
    cut_off[:, 12 * 64 + codec.look_ahead :] = 0
    assert torch.equal(codec.encode(waveform)[:, :12], codec.encode(cut_off)[:, :12])


@pytest.mark.parametrize("codec", CODECS, ids=map(str, SHAPES))
def test_with_the_true_spectra_the_waveform_comes_back(codec, monkeypatch):
    """A network that predicts the transforms of the recording itself: places and level of both sides agree."""
    head, silent = codec.head, -(-(codec.head.overlap - 1) // codec.stride)
    waveform = 0.3 * torch.randn(2, codec.hop * 6)
    padded = F.pad(waveform, (silent * codec.hop, codec.look_ahead))
    spectrum = torch.fft.rfft(padded.unfold(1, head.n_fft, head.hop) * head.window)

    def predicted(x, *, state, name):
        assert x.shape[1] == spectrum.shape[1]
        return torch.cat([spectrum.abs().clamp_min(1e-12).log(), spectrum.angle()], dim=-1)

    monkeypatch.setattr(codec.synthesis, "forward", predicted)
    made = codec.decode(torch.zeros(2, 6, 3, dtype=torch.long))
    torch.testing.assert_close(made, waveform, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("quantizer", ["rvq", "fsq"])
def test_forward_is_both_halves_and_padding_changes_no_valid_sample(quantizer):
    codec = build(quantizer=quantizer)
    waveform, lengths = torch.randn(2, 500), torch.tensor([500, 300])
    waveform[1, 300:] = 0
    output = codec(waveform, lengths)
    assert output.waveform.shape == (2, 500) and torch.equal(output.codes, codec.encode(waveform))
    torch.testing.assert_close(output.waveform, codec.decode(output.codes)[:, :500], atol=1e-5, rtol=1e-4)
    alone = codec(waveform[1:, :300])
    torch.testing.assert_close(output.waveform[1, :300], alone.waveform[0], atol=1e-5, rtol=1e-4)
    fewer = codec.decode(output.codes[..., :1])
    assert not torch.allclose(fewer, codec.decode(output.codes))


def test_codes_under_autocast_are_those_of_float32():
    codec, waveform = CODECS[0], torch.randn(2, 4000)
    codes = codec.encode(waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(codec.encode(waveform), codes)
        assert codec.decode(codes).dtype == torch.float32


@pytest.mark.parametrize("quantizer", ["rvq", "fsq"])
def test_an_export_is_the_same_codec(quantizer, tmp_path):
    codec = build(quantizer=quantizer)
    folder = save_export(tmp_path / "codec", {"codec": codec}, metadata={"stage": "codec"}, files={})
    loaded, codes = load_export(folder).modules["codec"], torch.randint(32, (1, 5, 3))
    assert torch.equal(loaded.decode(codes), codec.decode(codes)) and loaded.name == "fourier"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 5}, "codec.hop=64: a multiple of codec.stride=5"),
        ({"overlap": 2}, "codec.overlap=2: an even number, 4 or more"),
        ({"quantizer": "vq"}, "codec.quantizer=vq: available are rvq, fsq"),
        ({"quantizer": "fsq", "codebook_size": 100}, "codebook_size must be a power of 2, not 100"),
    ],
)
def test_what_cannot_be_built_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
