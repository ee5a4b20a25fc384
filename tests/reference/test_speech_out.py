"""The reference numbers, Speech out."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from muomni.cli.errors import CONF
from muomni.frontends.mel import LogMel
from muomni.inference.tts.frame_limit import frame_limit
from muomni.inference.tts.griffin_lim import MOMENTUM, GriffinLim
from muomni.inference.tts.speaker import Speaker
from muomni.losses.codec import talker_losses


def count(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.fixture
def codec(parts):
    return parts["codec"]


@pytest.fixture
def talker(parts):
    return parts["talker"]


@pytest.fixture
def spec(config):
    return instantiate(config().codec_mel)


def test_codec(codec):
    """RVQ codec, reference: 2 codebooks (base, residual) x 128 entries, d 64, mel 128 in and out, 32,960 parameters."""
    assert codec.quantizer.codebooks.shape == (2, 128, 64)
    assert codec.n_mels == 128 and codec(torch.randn(1, 5, 128)).mel.shape == (1, 5, 128)
    assert count(codec) == 32_960
    assert codec.quantizer.codebooks.requires_grad


def test_frame_by_frame_at_12_5_hz(codec, spec, config):
    """frame by frame on mels of hop 1280 (n_fft >= 4096): 12.5 Hz (80 ms)."""
    assert spec.hop == 1280 and spec.n_fft >= 4096 and spec.frame_rate == 12.5 and codec.stride == 1
    for stage in ("codec", "talker"):
        assert config(f"stage={stage}").datamodule.mel.hop == 1280
    mel = torch.randn(1, 6, 128)
    torch.testing.assert_close(codec.encode(mel)[:, 3], codec.encode(mel[:, 3:4])[:, 0])


@pytest.mark.parametrize("size", ["nano", "tiny", "small", "base"])
def test_other_sizes(size):
    """Other sizes: stride 8 on the 100 Hz mel."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[f"size={size}"])
    assert cfg.backbone.codec.stride == 8 and instantiate(cfg.codec_mel).frame_rate == 100


def test_talker(talker):
    """d 192, 4 layers, 3 heads, d_ff 768, start frame of zeros, one head a codebook, KV-cached, 2,435,200 parameters
    before its text conditioning."""
    block = talker.transformer.blocks[0]
    assert (len(talker.transformer.blocks), block.attention.heads) == (4, 3)
    assert block.mlp.down.weight.shape == (192, 768)
    assert talker.start.shape == (1, 1, 192) and not talker.start.any()
    assert [head.weight.shape for head in talker.heads] == [(128, 192)] * 2
    assert count(talker) - count(talker.text, talker.stop) == 2_435_200


def spoken(batch=1, length=9):
    return torch.randint(1, 99, (batch, length)), torch.full((batch,), length), torch.zeros(batch, dtype=torch.long)


def test_kv_cached(talker):
    (text, lengths, voices), codes = spoken(), torch.randint(128, (1, 6, 2))
    whole = talker(text, lengths, codes, speakers=voices).logits
    cache = talker.new_cache(1, 30)
    steps = [talker.prefill(text, lengths, speakers=voices, cache=cache).logits]
    steps += [talker.decode_step(codes[:, t - 1 : t], frame=t, cache=cache).logits for t in range(1, 6)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-4, rtol=1e-4)


def test_teacher_forcing(talker):
    """previous codes shifted by one frame, first frame zero."""
    (text, lengths, voices), codes = spoken(), torch.randint(128, (1, 6, 2))
    before = talker(text, lengths, codes, speakers=voices).logits
    codes[:, 3] = (codes[:, 3] + 1) % 128
    after = talker(text, lengths, codes, speakers=voices).logits
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.allclose(after[:, 4], before[:, 4])


def test_loss_is_the_sum_of_cross_entropies_over_all_frames(talker, config):
    (text, lengths, voices), codes = spoken(2), torch.randint(128, (2, 50, 2))
    output = talker(text, lengths, codes, speakers=voices)
    losses = talker_losses(output, codes, torch.tensor([50, 50]))
    for k in range(2):
        torch.testing.assert_close(losses[f"codebook_{k}"], F.cross_entropy(output.logits[:, :, k].mT, codes[..., k]))
    weights = config("stage=talker").module.training.loss_weights
    assert all(weights.get(f"codebook_{k}", 1.0) == 1.0 for k in range(2))


def test_from_mel_to_logits(codec, talker):
    """(2,50,128) mel -> codes (2,50,2) -> logits (2,50,128) x 2."""
    codes = codec.encode(torch.randn(2, 50, 128))
    assert codes.shape == (2, 50, 2)
    text, lengths, voices = spoken(2)
    logits = talker(text, lengths, codes, speakers=voices).logits
    assert [logits[:, :, k].shape for k in range(2)] == [(2, 50, 128)] * 2


@pytest.mark.parametrize(
    ("tokens", "frames"), [(0, 200), (1, 50), (2, 60), (10, 300), (33, 990), (34, 1000), (99, 1000)]
)
def test_length_bound(tokens, frames):
    """an upper bound of clamp(30 x tokens, 50, 1000) frames (200 with no tokens)."""
    assert frame_limit(tokens) == frames


def test_a_learned_stop(talker):
    """and a learned stop: it ends the utterance as soon as it says so."""
    (text, lengths, voices), codes = spoken(), torch.zeros(1, 7, 2, dtype=torch.long)
    assert talker(text, lengths, codes, speakers=voices).stop.shape == (1, 7)
    assert all(parameter.requires_grad for parameter in talker.stop.parameters())


def test_samples_of_301_frames(codec, spec):
    """10 tokens -> at most 300 frames; with the start frame kept 301 frames -> 301 x 1280 = 385,280 samples at 16 kHz."""
    codes = torch.randint(128, (1, frame_limit(10) + 1, 2))
    waveform = GriffinLim(spec, iterations=1)(codec.decode(codes)[0])
    assert waveform.shape == (385_280,) and spec.sample_rate == 16000


def test_codes_decode_in_one_batched_call(codec):
    """batched equals frame by frame."""
    codes = torch.randint(128, (2, 20, 2))
    one_by_one = torch.cat([codec.decode(codes[:, t : t + 1]) for t in range(20)], dim=1)
    torch.testing.assert_close(codec.decode(codes), one_by_one)


@pytest.mark.parametrize("log", [True, False])
def test_vocoder(spec, log):
    """Griffin-Lim with momentum 0.99, mel pseudo-inverse, log and magnitude mels told apart by configuration (not by
    guessing), peak-normalised, at the codec's own hop."""
    assert MOMENTUM == 0.99
    spec = dataclasses.replace(spec, log=log)
    vocoder = GriffinLim(spec, iterations=8)
    torch.testing.assert_close(vocoder.inverse, torch.linalg.pinv(vocoder.filters, rtol=1e-5))
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(32000) / 16000)
    waveform = vocoder(LogMel(spec)(tone))
    assert waveform.shape == (25 * 1280,)
    assert waveform.abs().max().item() == pytest.approx(0.95, abs=1e-3)
    loudest = torch.fft.rfft(waveform[:16000]).abs().argmax().item()
    assert abs(loudest - 440) < 20


def test_a_failure_is_an_error_never_a_tone(spec):
    for bad in (torch.zeros(0, 128), torch.full((4, 128), float("nan"))):
        with pytest.raises(ValueError, match="griffin_lim"):
            GriffinLim(spec, iterations=1)(bad)


def test_the_talker_speaks_the_text(talker, codec, spec):
    """Two texts give two utterances, the same text the same one."""
    speaker = Speaker(talker, codec, GriffinLim(spec, iterations=1))
    (one, same, other), _ = speaker.say(["hello world", "hello world", "a red circle"], [0, 0, 0])
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)
