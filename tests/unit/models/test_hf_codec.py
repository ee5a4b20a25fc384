"""Codecs of transformers as modules of ours: codes, waveforms and blocks are those of transformers' own classes."""

import pytest
import torch

from muomni.checkpoints.assembly import assemble
from muomni.models.hf_codec import HfCodec
from tests.unit.models.hf_codecs import CONFIGS, random_codec

pytest.importorskip("transformers")
TYPES = sorted(CONFIGS)


def built(model_type):
    """Our module with the weights of transformers' model, put together as an export is, and that model."""
    theirs = random_codec(model_type)
    state = {f"model.{key}": value for key, value in theirs.state_dict().items()}
    description = {"part": "hf_codec", "options": {"model_type": model_type, "config": CONFIGS[model_type]}}
    return assemble(description, state, where="export", weights="weights"), theirs


@pytest.fixture(scope="module", params=TYPES)
def both(request):
    return built(request.param)


def codes_of(theirs, waveform, model_type):
    """transformers' codes (B, T, K) of all codebooks."""
    if model_type == "encodec":
        return theirs.encode(waveform, bandwidth=4.0).audio_codes[0].mT
    return theirs.encode(waveform).audio_codes.mT


@torch.inference_mode()
def test_codes_and_waveforms_are_those_of_transformers(both):
    codec, theirs = both
    waveform = torch.randn(2, codec.hop * 51 + (0 if codec.name == "dac" else 3))
    codes = codec.encode(waveform)
    assert codes.shape == (2, -(-waveform.shape[1] // codec.hop), 4) and len(codes.unique()) > 20
    assert torch.equal(codes, codes_of(theirs, waveform[:, None], codec.name))
    decoded = codec.decode(codes)
    assert decoded.shape == (2, codes.shape[1] * codec.hop)
    if codec.name == "encodec":
        expected = theirs.decode(codes.mT[None], [None]).audio_values[:, 0]
    else:
        expected = theirs.decode(audio_codes=codes.mT).audio_values.reshape(2, -1)
    assert torch.equal(decoded[:, : expected.shape[1]], expected)
    assert not decoded[:, expected.shape[1] :].any() and decoded.shape[1] - expected.shape[1] < codec.hop


@torch.inference_mode()
def test_a_waveform_that_ends_within_a_frame_is_padded_by_silence(both):
    codec, _ = both
    waveform = torch.randn(1, codec.hop * 20 - 5)
    if codec.name == "dac":
        padded = torch.nn.functional.pad(waveform, (0, 5))
        assert torch.equal(codec.encode(waveform), codec.encode(padded))
    assert codec.encode(waveform).shape[1] == 20


@torch.inference_mode()
@pytest.mark.parametrize("sizes", [[7, *[1] * 33], [20, 20], [8, 5, 27]], ids=["frame by frame", "halves", "uneven"])
def test_blocks_are_the_whole(both, sizes):
    codec, _ = both
    codes = torch.randint(32, (1, 40, 3))  # of the first codebooks
    whole, state, done, blocks = codec.decode(codes), {}, 0, []
    assert max(sizes[0], codec.first_frames) == sizes[0]
    for size in sizes:
        low, high = max(0, done - codec.past), min(40, done + size + codec.ahead)
        blocks.append(codec.decode_block(codes[:, low:high], done - low, done - low + size, state=state))
        done += size
    waveform = torch.cat(blocks, dim=1)
    assert waveform.shape == whole.shape
    torch.testing.assert_close(waveform, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@torch.inference_mode()
def test_only_the_first_codebooks_may_be_given(both):
    codec, _ = both
    codes = torch.randint(32, (1, 20, 4))
    assert not torch.allclose(codec.decode(codes[..., :1]), codec.decode(codes))


@torch.inference_mode()
def test_moved_codebooks_are_computed_again():
    codec, _ = built("mimi")
    codes = torch.randint(32, (1, 6, 4))
    before = codec.decode(codes)
    moved = codec.double().decode(codes)
    assert moved.dtype == torch.float64
    torch.testing.assert_close(moved.float(), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("model_type", "change", "message"),
    [
        ("mimi", {"audio_channels": 2}, r"config.audio_channels=2: a codec of one channel is needed"),
        ("mimi", {"num_quantizers": 100_000}, r"num_quantizers=100000: from 1 to 256"),
        ("mimi", {"use_causal_conv": False}, r"use_causal_conv=true"),
        ("mimi", {"_attn_implementation": "someone/kernels"}, r"config._attn_implementation is no field of MimiConfig"),
        ("encodec", {"normalize": True, "chunk_length_s": 1.0}, r"encodec_24khz"),
        ("encodec", {"hidden_size": 1 << 40}, r"config.hidden_size=1099511627776: at most"),
        ("dac", {"hidden_size": "wide"}, r"config.hidden_size is no field"),
        ("dac", {"downsampling_ratios": [2] * 100}, r"config.downsampling_ratios has 100 entries"),
        ("higgs", {}, r"model_type='higgs': available are mimi, encodec, dac, snac"),
    ],
)
def test_what_a_description_must_not_ask_for_is_named(model_type, change, message):
    with pytest.raises(ValueError, match=message):
        HfCodec(model_type=model_type, config=CONFIGS.get(model_type, {}) | change)


def test_without_transformers_there_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    description = {"part": "hf_codec", "options": {"model_type": "dac", "config": CONFIGS["dac"]}}
    with pytest.raises(
        ValueError, match=r"^export: DacConfig of transformers is needed .*:  pip install 'muomni\[hf\]'$"
    ):
        assemble(description, {}, where="export", weights="weights")
