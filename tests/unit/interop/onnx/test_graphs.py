"""What is exported computes what our own code computes, before torch makes ONNX of it."""

import pytest
import torch

from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.tts.vocoder import NeuralVocoder
from muomni.interop.onnx.codec import CodecDecoderGraph
from muomni.interop.onnx.hearing import HearingGraph
from muomni.interop.onnx.mel import MelGraph
from muomni.interop.onnx.talker import TalkerGraph, TalkerTextGraph, talker_graph
from muomni.interop.onnx.thinker import ThinkerGraph, thinker_graph
from muomni.interop.onnx.vocoder import VocoderGraph
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.models.vocoder import Vocoder
from muomni.special_tokens import AUDIO, IMAGE

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=32, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
HEARING = HearingSpec(level=-7.0, margin=0.25, pause=0.5, threshold=4.0, edge=1.5)


def recording(seconds, seed):
    """Noise that swells and fades over a steady background with an offset, after two seconds or a third of it."""
    generator = torch.Generator().manual_seed(seed)
    samples, knots = round(seconds * 16000), max(2, round(2 * seconds))
    swell = (torch.rand(1, 1, knots, generator=generator) - 0.5).clamp_min(0)
    swell = torch.nn.functional.interpolate(swell, size=samples, mode="linear")[0, 0]
    swell[: min(32000, samples // 3)] = 0
    return torch.randn(samples, generator=generator) * (swell + 0.001) + 0.01


@pytest.mark.parametrize("spec", [MEL, MelSpec(**{**MEL.metadata(), "hop": 320, "n_fft": 512})])
@pytest.mark.parametrize("samples", [320, 500, 4799, 4800])
def test_the_spectrogram_is_that_of_the_training(spec, samples):
    clips = torch.stack([recording(1, seed)[:samples] for seed in (1, 2)])
    torch.testing.assert_close(MelGraph(spec)(clips)[0], LogMel(spec)(clips), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("seconds", "seed"), [(0.3, 1), (1.1, 1), (5, 2), (34, 4)])
def test_a_recording_is_prepared_as_in_training_at_any_scale(seconds, seed):
    waveform = recording(seconds, seed)
    heard = Hearing(MEL, HEARING)(waveform)
    expected = heard.trimmed()
    scaled = (waveform - waveform.mean()) / waveform.std()  # as sherpa-onnx passes it
    mel, lengths = HearingGraph(MEL, HEARING)(torch.stack([waveform, scaled, 0.01 * waveform]))
    assert lengths.tolist() == [len(expected)] * 3
    for row in mel:
        torch.testing.assert_close(row[: len(expected)], expected, atol=3e-4, rtol=0)
    assert seconds < 1.2 or len(expected) < len(heard.mel)  # something is left out


def test_silence_is_prepared_whole():
    silence = torch.zeros(40000)
    mel, lengths = HearingGraph(MEL, HEARING)(silence[None])
    torch.testing.assert_close(mel[0, : lengths[0]], Hearing(MEL, HEARING)(silence).trimmed())


def make_thinker(**options):
    shape = {
        "vocab_size": 60,
        "dim": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "ff_dim": 48,
        "max_length": 128,
    }
    return Thinker(**{**shape, **options}).eval()


def no_past(graph, batch):
    return [
        torch.zeros(port.shape({"batch": batch, "past": 0})) for port in graph.inputs if port.name.startswith("past.")
    ]


NANO = {"short_conv": 4, "qk_norm": True}
GEMMA = {
    "head_dim": 12, "window": 5, "full_attention": [1], "local_rope_theta": 100.0, "norm": "rms_offset", "output_norm": True,
    "embedding_scale": 5.0, "attention_scale": 0.2, "mlp": "geglu", "tied": True,
}  # fmt: skip
GPT2 = {
    "mlp": "gelu_tanh",
    "norm": "layer",
    "learned_positions": True,
    "rope_theta": None,
    "qkv_bias": True,
    "out_bias": True,
}


@pytest.mark.parametrize("options", [NANO, GEMMA, GPT2, {"window": 5}])
def test_the_thinker_goes_from_call_to_call_as_with_its_own_cache(options):
    thinker = make_thinker(**options)
    described = thinker_graph(thinker, media=(), max_length=128)
    graph = ThinkerGraph(thinker, media=())
    ids = torch.randint(9, 60, (3, 7))
    keep = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7, [0, 1, 1, 1, 1, 1, 1]])  # left padding
    cache = thinker.new_cache(3)
    cache.mask_padding(keep > 0)
    past = no_past(described, 3)
    with torch.inference_mode():
        for _ in range(12):
            expected = thinker(ids, cache=cache).logits
            logits, *past = graph(ids, keep, *past)
            torch.testing.assert_close(logits[keep[:, -ids.shape[1] :] > 0], expected[keep[:, -ids.shape[1] :] > 0])
            ids = expected[:, -1:].argmax(-1)
            keep = torch.cat([keep, torch.ones_like(ids)], dim=1)


def test_media_fill_their_slots_in_order():
    thinker = make_thinker(short_conv=3)
    ids = torch.tensor([[IMAGE, IMAGE, 10, 11, AUDIO], [IMAGE, IMAGE, AUDIO, AUDIO, 12]])
    images, audios = torch.randn(4, 32), torch.randn(3, 32)
    x = thinker.embedding(ids).detach()
    x[ids == IMAGE], x[ids == AUDIO] = images, audios
    expected = thinker(ids, embeddings=x).logits
    graph = ThinkerGraph(thinker, media=("image", "audio"))
    described = thinker_graph(thinker, media=("image", "audio"), max_length=128)
    logits, *_ = graph(ids, torch.ones_like(ids), images, audios, *no_past(described, 2))
    torch.testing.assert_close(logits, expected)
    none = torch.zeros(0, 32)
    text = torch.randint(9, 60, (1, 4))
    logits, *_ = graph(text, torch.ones_like(text), none, none, *no_past(described, 1))
    torch.testing.assert_close(logits, thinker(text).logits)


def test_a_mixture_of_experts_is_refused_by_name():
    with pytest.raises(ValueError, match="thinker: a mixture of 4 experts has no ONNX graph"):
        thinker_graph(make_thinker(num_experts=4), media=(), max_length=128)


@pytest.mark.parametrize(("alignment", "pattern"), [("free", "depth"), ("durations", "parallel")])
def test_the_talker_speaks_the_same_codes(alignment, pattern):
    talker = Talker(
        num_symbols=30, num_speakers=2, text_layers=1, text_kernel=3, num_codebooks=3, codebook_size=16, dim=32, num_layers=2,
        num_heads=2, ff_dim=48, max_frames=40, shared_embedding=False, alignment=alignment, pattern=pattern,
    ).eval()  # fmt: skip
    text, lengths, speakers = torch.randint(1, 30, (2, 6)), torch.tensor([6, 4]), torch.tensor([0, 1])
    read = 0 if alignment == "durations" else 6
    cache = talker.new_cache(2, read + 40)
    described = talker_graph(talker)
    graph = TalkerGraph(talker)
    with torch.inference_mode():
        prefix, times, frames = TalkerTextGraph(talker)(text, lengths, speakers)
        expected = talker.prefill(text, lengths, speakers=speakers, cache=cache)
        torch.testing.assert_close(frames, cache.text)
        keep = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 1]])[:, 6 - read :]
        codes, past = torch.zeros(2, 3, dtype=torch.long), no_past(described, 2)
        for frame in range(30):
            logits, stop, *past = graph(prefix, times, codes, torch.full((2,), frame), frames[:, frame], keep, *past)
            torch.testing.assert_close(logits, expected.logits[:, 0])
            torch.testing.assert_close(stop, expected.stop[:, 0])
            codes, keep = logits.argmax(-1), torch.cat([keep, torch.ones(2, 1, dtype=torch.long)], dim=1)
            prefix, times = prefix[:, :0], times[:, :0]
            expected = talker.decode_step(codes[:, None], frame=frame + 1, cache=cache)


def test_the_decoder_of_the_codec_sums_entries():
    codec = Codec(
        n_mels=8, stride=4, dim=6, num_codebooks=3, codebook_size=16, num_layers=1, width=16, kernel=3, ff_dim=24, decay=0.9,
        dropout=0.5, idle=0.1,
    ).eval()  # fmt: skip
    codes, lengths = torch.randint(0, 16, (2, 5, 2)), torch.tensor([5, 3])
    torch.testing.assert_close(CodecDecoderGraph(codec)(codes, lengths)[0], codec.decode(codes, lengths))


@pytest.mark.parametrize("corrections", [0, 3])
def test_the_vocoder_is_the_one_with_its_correction(corrections):
    model = Vocoder(n_mels=32, hop=160, overlap=4, width=16, num_layers=1, kernel=3, ff_dim=24)
    neural = NeuralVocoder(model, spec=MEL, corrections=corrections, name="vocoder")
    mel = LogMel(MEL)(torch.stack([recording(0.5, 1), recording(0.5, 2)]))
    (waveform,) = VocoderGraph(model, MEL, corrections=corrections)(mel)
    torch.testing.assert_close(waveform, neural(mel), atol=1e-4, rtol=0)
