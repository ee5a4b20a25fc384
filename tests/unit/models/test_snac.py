"""SNAC: codes and waveforms are those of the package snac 1.2.1 without its noise, whose numbers stand here."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from muomni.interop.hf.codec import describe_codec, export_codec, load_codec
from muomni.models.hf_codec import HfCodec

CONFIG = {
    "sampling_rate": 1600, "encoder_dim": 4, "encoder_rates": [2, 3], "decoder_dim": 32, "decoder_rates": [3, 2],
    "attn_window_size": None, "codebook_size": 32, "codebook_dim": 4, "vq_strides": [4, 2, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def codec():
    """A small one, with waves as weights."""
    codec = HfCodec(model_type="snac", config=CONFIG).eval()
    state = codec.model.state_dict()
    for index, key in enumerate(sorted(state)):
        steps = torch.arange(state[key].numel(), dtype=torch.float64) * (0.7 + 0.01 * index) + index
        wave = torch.sin(steps).reshape(state[key].shape).float()
        if key.endswith("alpha"):
            wave = 1 + 0.5 * wave
        elif key.endswith("original0"):
            wave = 0.8 + 0.2 * wave
        elif key.endswith("bias"):
            wave = 0.1 * wave
        state[key].copy_(wave)
    return codec


def sung():
    return 0.7 * torch.sin(torch.arange(24 * 20) ** 1.5 * 0.05)[None]


@torch.inference_mode()
def test_codes_and_waveforms_are_those_of_the_package(codec):
    assert (codec.hop, codec.num_codebooks, codec.codebook_size) == (24, 7, 32)
    codes = codec.encode(sung())
    assert codes.shape == (1, 20, 7)
    assert codes[0, :3].tolist() == [[4, 1, 1, 26, 26, 5, 26], [4, 1, 1, 26, 26, 5, 5], [11, 1, 1, 26, 5, 5, 26]]
    assert codes[0, 13].tolist() == [4, 1, 28, 26, 2, 6, 29]
    waveform = codec.decode(codes)
    assert waveform.shape == (1, 480)
    expected = [-0.394190, -0.910851, 0.846608, 0.998023, 0.596847, -0.944425]
    torch.testing.assert_close(waveform[0, 200:206], torch.tensor(expected), atol=1e-5, rtol=0)
    expected = [-0.258875, -0.122857, 0.578698]  # of the first two levels
    torch.testing.assert_close(codec.decode(codes[..., :3])[0, 200:203], torch.tensor(expected), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_blocks_are_the_whole(codec):
    codes = torch.randint(32, (1, 40, 7), generator=torch.Generator().manual_seed(0))
    whole, state, done, blocks = codec.decode(codes), {}, 0, []
    for size in (1, 2, 20, 17):
        low, high = max(0, done - codec.past), min(40, done + size + codec.ahead)
        blocks.append(codec.decode_block(codes[:, low:high], done - low, done - low + size, state=state))
        done += size
    torch.testing.assert_close(torch.cat(blocks, dim=1), whole, atol=1e-5, rtol=0)


def test_whole_levels_are_spoken(codec):
    codec.check_codebooks(3)
    with pytest.raises(ValueError, match="SNAC speaks whole levels: 1 or 3 or 7 codebooks, not 2"):
        codec.check_codebooks(2)
    with pytest.raises(ValueError, match="snac has 7 codebooks, not 8"):
        codec.check_codebooks(8)


def test_a_folder_comes_in_and_leaves_bit_by_bit(codec, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    tensors = {key: value.contiguous() for key, value in codec.model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert describe_codec(tmp_path).num_codebooks == 7
    export_codec(load_codec(tmp_path).modules["codec"], tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == tensors.keys() and all(torch.equal(back[key], tensors[key]) for key in back)
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_window_size": 32}, "a SNAC with local attention is not built"),
        ({"latent_dim": 3}, "config.latent_dim=3: null is needed"),
        ({"vq_strides": [3, 2]}, "vq_strides divide the first of them"),
        ({"layers": 2}, "config.layers is no field of SNAC"),
        ({"encoder_dim": 1 << 30}, "config.encoder_dim=1073741824: at most"),
    ],
)
def test_what_is_not_built_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        HfCodec(model_type="snac", config=CONFIG | change)
