"""The reference numbers, Audio in."""

import pytest
import torch
from hydra.utils import instantiate

from muomni.frontends.char_vocab import BLANK, NEWLINE, NUM_LOGITS, TAB, UNKNOWN, encode_characters
from muomni.frontends.mel import LogMel
from muomni.losses.ctc import ctc_loss


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def audio(parts):
    return parts["audio"]


def test_mel(config):
    """16 kHz -> mel (hop 160, 128 bins, n_fft 1024, window 400, log) -> 100 frames a second, frames =
    floor(samples/160)."""
    spec = instantiate(config().mel)
    assert (spec.sample_rate, spec.hop, spec.bins, spec.n_fft, spec.win, spec.log) == (16000, 160, 128, 1024, 400, True)
    mel = LogMel(spec)
    for samples, frames in ((16000, 100), (16159, 100), (16160, 101)):
        assert mel(torch.randn(samples) * 0.1).shape == (frames, 128)


def test_stem(audio):
    """-> two stride-2 3x3 Conv2d, 64 channels, GELU: (1,1,100,128) -> (1,64,50,64) -> (1,64,25,32) -> (1,25,2048) ->
    Linear(2048,192)."""
    x, stem = torch.randn(1, 1, 100, 128), audio.encoder.stem
    mel = x[:, 0]
    for conv, shape in zip(stem.convs, [(1, 64, 50, 64), (1, 64, 25, 32)], strict=True):
        assert (conv.kernel_size, conv.stride) == ((3, 3), (2, 2))
        x = torch.nn.functional.gelu(conv(x))
        assert x.shape == shape
    flat = x.transpose(1, 2).flatten(2)
    assert flat.shape == (1, 25, 2048) and stem.proj.weight.shape == (192, 2048)
    torch.testing.assert_close(stem(mel, None), stem.proj(flat))


def test_blocks_and_tokens(parts, audio):
    """-> 4 bidirectional blocks (d 192, 3 heads, d_ff 768) -> (1,25,192) -> Linear(192,256) -> 25 tokens a second."""
    blocks = audio.encoder.transformer.blocks
    assert len(blocks) == 4
    assert (blocks[0].attention.heads, blocks[0].attention.causal) == (3, False)
    assert blocks[0].mlp.up.weight.shape == (768, 192)
    heard, projector = audio(torch.randn(1, 100, 128)), parts["audio_projector"]
    assert heard.hidden.shape == (1, 25, 192)
    assert isinstance(projector.layers, torch.nn.Linear) and projector.layers.weight.shape == (256, 192)
    pooled, lengths = projector.pool(heard)
    assert projector(pooled).shape == (1, 25, 256) and lengths.tolist() == [25]


def test_parameters(audio):
    """2,209,088 parameters (positions are an addition: without them the blocks cannot tell order)."""
    assert count(audio.encoder) == 2_209_088
    assert audio.encoder.rope is None


@pytest.mark.parametrize(("downsample", "rate"), [(4, 25.0), (8, 12.5)])
def test_downsample(config, downsample, rate):
    """`downsample: 4 | 8` (25 or 12.5 Hz)."""
    overrides = [] if downsample == 4 else ["ablation=audio_downsample_8"]
    model = instantiate(config(*overrides).backbone.audio, _convert_="all").eval()
    assert model.downsample == downsample
    assert model(torch.randn(1, 400, 128)).hidden.shape == (1, 4 * rate, 192)


def test_padding_never_changes_a_valid_frames_output(audio):
    mel = torch.randn(2, 100, 128)
    mel[1, 61:] = 1e3
    both, alone = audio(mel, torch.tensor([100, 61])), audio(mel[1:, :61])
    torch.testing.assert_close(both.hidden[1, :16], alone.hidden[0], atol=1e-4, rtol=1e-4)


def test_at_most_a_quarter_of_the_context_is_audio(config):
    """At most ctx_len // 4 audio tokens (128) enter the Thinker."""
    cfg = config("stage=omni_sft")
    assert cfg.datamodule.max_audio_tokens == cfg.backbone.thinker.max_length // 4 == 128


def test_ctc_characters(audio):
    """blank 0; 95 printable ASCII (0x20-0x7E) = 1..95, newline 96, tab 97, unk 98: 98 symbols, 99 logits."""
    assert (BLANK, NEWLINE, TAB, UNKNOWN, NUM_LOGITS) == (0, 96, 97, 98, 99)
    assert encode_characters("".join(map(chr, range(0x20, 0x7F)))) == list(range(1, 96))
    assert encode_characters("\n\té") == [96, 97, 98]
    assert audio(torch.randn(1, 100, 128)).logits.shape == (1, 25, 99)


def test_a_clip_too_short_is_counted(audio):
    """A clip too short for its transcript is counted and reported, never hidden in `zero_infinity` (the stage's report:
    tests/unit/stages/test_speech_stages.py)."""
    output = audio(torch.randn(2, 16, 128))  # 4 frames a clip
    loss = ctc_loss(
        output.logits, output.lengths, torch.tensor([[1, 2, 3, 4, 5], [1, 2, 0, 0, 0]]), torch.tensor([5, 2])
    )
    assert loss.too_short.tolist() == [True, False] and torch.isfinite(loss.loss)
