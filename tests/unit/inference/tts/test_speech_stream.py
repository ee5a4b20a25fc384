"""Speech in blocks: a stream is the utterance to the last bit, nothing clicks, and it is as good as the whole."""

import math

import pytest
import torch

from muomni.frontends.loudness import PEAK
from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.decoding.timings import Timings
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.level import MelLevel, RunningPeakGain
from muomni.inference.tts.speech_decoder import VocoderDecoder
from muomni.inference.tts.speech_stream import TextSynthesizer, synthesize, synthesize_stream
from muomni.inference.tts.vocoder_blocks import VocoderBlocks
from muomni.models.codec import Codec

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=64, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
REFERENCE = MelSpec(
    sample_rate=16000, hop=1280, n_fft=4096, win=4096, bins=64, f_min=0.0, f_max=8000.0, log=True, floor=1e-5
)


def rendered_late(sentences, decoder):
    """The waveform of sentences whose codes are all there before the first block is rendered."""
    late = TextSynthesizer(decoder)
    for codes in sentences:
        late.begin()
        late.add(codes)
        late.end()
    blocks = []
    while late.ready:
        blocks.append(late.render())
    return torch.cat(blocks)


def sung(seconds, rate=16000):
    """A voice-like tone with vibrato, fading in and out: any break in its phase is heard."""
    t = torch.arange(int(seconds * rate)) / rate
    pitch = 140 + 6 * torch.sin(2 * math.pi * 3 * t)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / rate
    tone = sum(torch.sin(k * phase) / k for k in range(1, 20))
    return 0.2 * tone * (0.6 + 0.4 * torch.sin(2 * math.pi * 0.7 * t))


class Recorded:
    """A codec whose codes are the numbers of the recording's own mel frames, so that only the vocoder is heard."""

    def __init__(self, mel, *, stride, reach=0):
        self.mel, self.stride, self.reach = mel, stride, reach

    def codes(self):
        return torch.arange(len(self.mel) // self.stride)[:, None]

    def decode(self, codes):
        return torch.cat([self.mel[int(row) * self.stride : (int(row) + 1) * self.stride] for row in codes[0, :, 0]])[
            None
        ]


def random_codec(**changes):
    torch.manual_seed(0)
    shape = {"n_mels": 64, "stride": 8, "dim": 8, "num_codebooks": 2, "codebook_size": 16, "num_layers": 2, "width": 16,
             "kernel": 5, "ff_dim": 32, "decay": 0.99, "dropout": 0.0, "idle": 0.0} | changes  # fmt: skip
    codec = Codec(**shape).eval()
    torch.nn.init.normal_(codec.quantizer.codebooks)
    return codec


BLOCKS = {1: [1], 2: [2], 4: [4], 5: [3, 2], 8: [3, 5], 11: [3, 8], 13: [3, 6, 4], 20: [3, 6, 11],
          41: [3, 6, 8, 8, 8, 8]}  # fmt: skip


@pytest.mark.parametrize("rows", BLOCKS)
def test_a_stream_is_the_utterance_to_the_last_bit(rows):
    codec, vocoder = random_codec(), GriffinLim(MEL, iterations=2)
    codes = torch.randint(16, (rows, 2), generator=torch.Generator().manual_seed(rows))
    whole = synthesize([codes], VocoderDecoder(codec, vocoder))
    assert whole.shape == (rows * 8 * 160,)
    chunks = list(synthesize_stream([codes], VocoderDecoder(codec, vocoder)))
    assert torch.equal(torch.cat(chunks), whole)
    assert [len(chunk) // 1280 for chunk in chunks] == BLOCKS[rows]
    late = VocoderBlocks(
        codec, vocoder
    )  # all codes are there, and the end is known, before the first block is rendered
    assert torch.equal(torch.cat(rendered(late, codes)), whole)
    ragged = VocoderBlocks(codec, vocoder)
    pieces = []
    for some in codes.split([1] * (rows % 5) + [rows - rows % 5]):
        ragged.add(some)
        if ragged.ready:
            pieces.append(ragged.render())
    assert torch.equal(torch.cat([*pieces, *rendered(ragged)]), whole)


def rendered(blocks, codes=()):
    """The blocks of the codes that are left and of these, at their end."""
    blocks.add(codes)
    blocks.end()
    came = []
    while blocks.ready:
        came.append(blocks.render())
    return came


def test_a_block_comes_as_soon_as_the_rows_behind_it_are_known():
    codec, vocoder = random_codec(), GriffinLim(MEL, iterations=2)
    blocks = VocoderBlocks(codec, vocoder)
    came = []
    for frame in range(22):
        blocks.add(torch.zeros(1, 2, dtype=torch.long))
        if blocks.ready:
            blocks.render()
            came.append(frame)
    ahead = 1 + 2 * 2  # a row of the vocoder's frames, and what the codec's two kernels of 5 see
    assert came == [3 + ahead - 1, 9 + ahead - 1, 17 + ahead - 1]


@torch.inference_mode()
def test_the_mel_of_a_block_is_that_of_the_whole():
    codec = random_codec()
    codes = torch.randint(16, (30, 2))
    blocks = VocoderBlocks(codec, GriffinLim(MEL, iterations=1))
    blocks.codes = list(codes)
    whole = codec.decode(codes[None])[0]
    for first, stop, known in ((0, 72, 13), (56, 136, 21), (131, 240, 30)):
        mel, skipped = blocks._mel(first, known=known)
        torch.testing.assert_close(mel[skipped : skipped + stop - first], whole[first:stop], atol=1e-5, rtol=1e-5)


def roughness(waveform):
    """The second difference: what a click is made of."""
    return torch.diff(waveform, n=2).abs()


def border_samples(samples):
    """Where blocks of 3, 6, 8, 8, ... rows meet."""
    return [rows * 1280 for rows in (3, *range(9, samples // 1280 - 1, 8))]


@pytest.mark.parametrize("spec", [MEL, REFERENCE], ids=["hop160", "hop1280"])
def test_borders_do_not_click(spec):
    stride = 1280 // spec.hop
    codec = Recorded(LogMel(spec)(sung(5.0)), stride=stride)
    vocoder = GriffinLim(spec, iterations=32)
    waveform = synthesize([codec.codes()], VocoderDecoder(codec, vocoder))
    rough, borders = roughness(waveform), border_samples(len(waveform))
    at = torch.stack([rough[border - 4 : border + 164].max() for border in borders])
    near = torch.stack([torch.cat([rough[border - 2000 : border - 4], rough[border + 164 : border + 2000]]).max()
                        for border in borders])  # fmt: skip
    assert len(borders) >= 6
    assert (at / near).max() < 1.3


def dips(waveform):
    """Energy of 40 ms over that of the 200 ms around them, every 10 ms: where phases cancel, it is small."""
    energy = torch.nn.functional.avg_pool1d(waveform[None].square(), 640, stride=160, padding=320)[0]
    around = torch.nn.functional.avg_pool1d(waveform[None].square(), 3200, stride=160, padding=1600)[0]
    return energy / around


def test_nothing_cancels_where_blocks_meet():
    codec = Recorded(LogMel(MEL)(sung(5.0)), stride=8)
    ratio = dips(synthesize([codec.codes()], VocoderDecoder(codec, GriffinLim(MEL, iterations=32))))
    assert ratio[64:-64:64].min() > 0.8 * ratio[20:-20].quantile(0.05)


def test_blocks_put_side_by_side_without_their_past_would_click():
    """That the test above can fail."""
    codec = Recorded(LogMel(MEL)(sung(5.0)), stride=8)
    vocoder = GriffinLim(MEL, iterations=32)
    apart = torch.cat([vocoder(codec.mel[first : first + 64]) for first in range(0, 448, 64)])
    rough = roughness(apart)
    at = max(float(rough[border - 4 : border + 164].max()) for border in range(10240, len(apart), 10240))
    assert at > 1.3 * float(rough[5000:9000].max())


def convergence(waveform, mel, vocoder):
    """How far the waveform's magnitudes are from those asked for, relative to them."""
    magnitude = vocoder.magnitudes(mel[None])[0, :-1]
    half, hop = vocoder.length // 2, vocoder.spec.hop
    frames = torch.nn.functional.pad(waveform, (half, half)).unfold(0, vocoder.length, hop)[: len(magnitude)]
    found = torch.fft.rfft(frames * vocoder.window).abs()
    gain = (found * magnitude).sum() / found.square().sum()
    return float((gain * found - magnitude).norm() / magnitude.norm())


def test_blocks_are_as_good_as_the_whole():
    mel = LogMel(MEL)(sung(5.0))[:496]
    codec, vocoder = Recorded(mel, stride=8), GriffinLim(MEL, iterations=32)
    blocks = VocoderBlocks(codec, vocoder, gain=RunningPeakGain(fade=160, peak=2.0))  # that no level changes
    waveform = torch.cat(rendered(blocks, codec.codes()))
    in_blocks = convergence(waveform, mel, vocoder)
    assert in_blocks < 1.1 * convergence(vocoder(mel), mel, vocoder)


def test_the_loudest_sample_is_at_the_peak_and_the_level_only_sinks():
    level = RunningPeakGain(fade=10)
    blocks = [torch.linspace(-1, 1, 100) * peak for peak in (0.2, 0.1, 0.4, 0.3)]
    heard = [level(block, ahead[:10]) for block, ahead in zip(blocks, [*blocks[1:], torch.zeros(0)], strict=True)]
    # The second block's end is faded into the third, so it already stands at the third one's level.
    assert [float(h[10:].abs().max()) for h in heard] == pytest.approx([PEAK, PEAK / 4, PEAK, PEAK * 3 / 4])
    assert float(torch.cat(heard).abs().max()) == pytest.approx(PEAK)
    gains = torch.cat([h / b for h, b in zip(heard, blocks, strict=True)])
    assert gains.diff().max() < 1e-4
    assert gains.diff().min() > -0.3  # of the 2.4 that it sinks by, over ten samples


def test_a_quiet_onset_stays_quiet_before_loud_speech():
    codec = Recorded(LogMel(MEL)(torch.cat([0.02 * sung(0.3), sung(2.0)]))[:184], stride=8, reach=4)
    blocks = list(synthesize_stream([codec.codes()], VocoderDecoder(codec, GriffinLim(MEL, iterations=8))))
    assert len(blocks[0]) == 3 * 1280
    assert blocks[0].abs().max() < 0.1  # by its own peak alone it would be at 0.95
    assert torch.cat(blocks).abs().max() > 0.7


def test_the_level_expected_of_a_mel_is_about_its_loudest_sample():
    waveform = sung(2.0)
    expected = MelLevel(MEL)(LogMel(MEL)(waveform))
    assert 0.7 < expected / float(waveform.abs().max()) < 1.4
    assert MelLevel(MEL)(LogMel(MEL)(waveform / 10)) == pytest.approx(expected / 10, rel=0.01)


def test_silence_stays_silent():
    assert RunningPeakGain(fade=4)(torch.full((20,), 1e-4), torch.zeros(0)).abs().max() < 0.01


def test_a_mel_that_is_not_finite_is_an_error():
    codec = Recorded(torch.full((80, 64), float("nan")), stride=8)
    with pytest.raises(ValueError, match="NaN or Inf"):
        synthesize([codec.codes()], VocoderDecoder(codec, GriffinLim(MEL, iterations=1)))


def test_sentences_have_pauses_between_them_and_one_level():
    decoder = VocoderDecoder(random_codec(), GriffinLim(MEL, iterations=2))
    sentences = [torch.randint(16, (rows, 2), generator=torch.Generator().manual_seed(rows)) for rows in (9, 1, 14)]
    whole = synthesize(sentences, decoder)
    assert torch.equal(torch.cat(list(synthesize_stream((list(codes) for codes in sentences), decoder))), whole)
    assert torch.equal(whole[: 9 * 1280], synthesize(sentences[:1], decoder))
    for begin in (9 * 1280, 10 * 1280 + 3200):
        assert not whole[begin : begin + 3200].any()
    assert len(whole) == 24 * 1280 + 2 * 3200
    alone = synthesize(sentences[2:], decoder)
    ratio = whole[-14 * 1280 :] / alone
    assert ratio[alone.abs() > 1e-3].max() < 1 + 1e-4  # the level of the sentences before it, or lower
    assert torch.equal(rendered_late(sentences, decoder), whole)


# --- the engine ---------------------------------------------------------------------------------------------------


def test_speech_that_is_cut_off_or_has_no_words_is_said(engine, caplog, monkeypatch):
    monkeypatch.setattr("muomni.inference.tts.speaker.frame_limit", lambda tokens: 3)
    for speak in (engine.generate_speech, lambda text: list(engine.generate_speech_stream(text))):
        caplog.clear()
        speak("tell me \U0001f600")
        assert [record.getMessage() for record in caplog.records] == [
            "'tell me \U0001f600': cannot be spoken, left out: '\U0001f600'",
            "the speech is cut off after 3 frames: speak shorter texts",
        ]
    caplog.clear()
    assert engine.speak(["tell me"])[0].truncated  # it says so itself
    assert not caplog.records


def test_numbers_are_spoken_in_the_words_of_training(engine):
    said = engine.generate_speech("seven minus two is five")
    assert torch.equal(engine.generate_speech("7 - 2 = 5"), said)


def test_the_engines_stream_is_its_waveform(engine):
    text = "what colour is the circle"
    (spoken,) = engine.speak([text])
    whole, frames, timings = spoken.waveform, spoken.timings.frames, Timings()
    chunks = engine.generate_speech_stream(text, timings=timings)
    first = next(chunks)
    assert 0 < timings.first_audio <= timings.speech
    assert timings.frames == 3 + 1 + 1 < frames  # the Talker has not spoken to its end yet
    assert torch.equal(torch.cat([first, *chunks]), whole)
    assert timings.frames == frames
    assert timings.audio_seconds == pytest.approx(len(whole) / 16000)
    assert timings.first_audio < timings.speech


def test_every_row_of_a_batch_is_its_single_run(engine):
    texts = ["tell me", "what colour is the circle", "1"]
    together = engine.speak(texts, voices=[0, 1, 1])
    for text, voice, utterance in zip(texts, (0, 1, 1), together, strict=True):
        assert torch.equal(utterance.waveform, engine.generate_speech(text, voice=voice))


def test_what_cannot_be_spoken_is_said_before_the_first_chunk(engine):
    with pytest.raises(ValueError, match="empty text"):
        engine.generate_speech_stream(" ")
    with pytest.raises(ValueError, match="unknown voice 2"):
        engine.generate_speech_stream("tell me", voice=2)


def test_a_long_text_is_spoken_sentence_by_sentence(engine, monkeypatch):
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    sentences = ["tell me.", "what colour is it?", "1"]
    whole = engine.speak([" ".join(sentences), "tell me"])
    alone = engine.speak(sentences)
    assert torch.equal(whole[0].codes, torch.cat([utterance.codes for utterance in alone]))
    assert torch.equal(whole[1].waveform, alone[0].waveform)
    assert len(whole[0].waveform) == sum(len(one.waveform) for one in alone) + 2 * 3200
    assert torch.equal(torch.cat(list(engine.generate_speech_stream(" ".join(sentences)))), whole[0].waveform)
    monkeypatch.setattr("muomni.inference.tts.speaker.BATCH_SIZE", 2)
    assert torch.equal(engine.generate_speech(" ".join(sentences)), whole[0].waveform)


def test_a_text_longer_than_the_talkers_limit_is_spoken_in_parts(engine, monkeypatch):
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    speaker, text = engine.speaker, "what colour is the circle " * 12  # more than 60 frames are predicted for it
    sentences = speaker.prepare(text, engine.tokenizer)
    assert len(sentences) > 2
    assert " ".join(sentence.text for sentence in sentences) == " ".join(text.split())
    for sentence in sentences:
        assert speaker.predicted_frames([sentence.text], [0])[0] <= 60
    assert len(engine.generate_speech(text)) > 2 * 16000


def test_only_the_words_of_a_text_are_spoken(engine, caplog):
    (sentence,) = engine.speaker.prepare("\U0001f600! tell me. ...", engine.tokenizer)
    assert sentence.text == "tell me"
    assert [record.getMessage() for record in caplog.records] == [
        "'\U0001f600! tell me. ...': cannot be spoken, left out: '\U0001f600'"
    ]
    with pytest.raises(ValueError, match="nothing in '...' can be spoken"):
        engine.speaker.prepare("...", engine.tokenizer)
