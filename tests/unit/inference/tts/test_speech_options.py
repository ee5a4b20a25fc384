"""With guidance, a penalty or drawn codes a text is spoken the same alone, in a batch, as a stream, and while it is written."""

import importlib.util

import pytest
import torch

from muomni.inference.decoding.row_blocks import with_row_blocks
from muomni.inference.errors import InvalidOption
from muomni.models.talker import Talker

TEXT = "the red circle is on the left. It was 7 - 2 = 5"
CHOICES = [
    {"guidance": 2.5},
    {"code_penalty": 0.3},
    {"code_temperature": 1.5, "code_seed": 4},
    {"guidance": 2.0, "code_penalty": 0.5, "code_temperature": 1.0},
]
choices = pytest.mark.parametrize("options", CHOICES, ids=lambda options: "-".join(options))


@pytest.fixture(params=["free", "durations"], autouse=True)
def talker(request, engine, monkeypatch):
    """The engine speaks with a Talker of random weights that was without its text at times."""
    torch.manual_seed(5)
    made = {"alignment": request.param, "max_frames": 40, "text_dropout": 0.1}
    talker = Talker(**{**engine.speaker.talker.options, **made}).eval()
    with torch.no_grad():
        talker.text.step.bias.fill_(-0.7)
        if talker.stop is not None:
            talker.stop.weight.normal_(std=1.0)
        for head in talker.heads:
            head.weight.normal_(std=0.3)
    monkeypatch.setattr(engine.speaker, "talker", with_row_blocks(talker))
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    return talker


@choices
def test_a_stream_has_the_samples_of_the_whole(engine, options):
    for look_ahead in (None, 3):
        whole = engine.generate_speech(TEXT, look_ahead=look_ahead, **options)
        assert not torch.equal(whole, engine.generate_speech(TEXT, look_ahead=look_ahead))
        for size in (2, 9):
            pieces = [TEXT[begin : begin + size] for begin in range(0, len(TEXT), size)]
            chunks = engine.generate_speech_stream(pieces, look_ahead=look_ahead, **options)
            assert torch.equal(torch.cat(list(chunks)), whole)


@choices
def test_a_batch_has_the_samples_of_each_alone(engine, options):
    texts, voices = ["the red circle", "who", "a blue square is here"], [0, 1, 1]
    for one, text, voice in zip(engine.speak(texts, voices=voices, **options), texts, voices, strict=True):
        assert torch.equal(one.waveform, engine.generate_speech(text, voice=voice, **options))


def test_an_answer_is_spoken_with_them_while_it_is_written(engine):
    came = list(engine.generate_spoken_stream("what", max_new_tokens=12, guidance=2.0, code_penalty=0.5))
    text = "".join(each for each in came if isinstance(each, str))
    sounds = torch.cat([each for each in came if not isinstance(each, str)])
    assert torch.equal(sounds, engine.generate_speech(text, guidance=2.0, code_penalty=0.5))


def test_guidance_is_of_a_talker_that_was_without_its_text(engine, talker, monkeypatch):
    plain = Talker(**{**talker.options, "text_dropout": 0.0}).eval()
    monkeypatch.setattr(engine.speaker, "talker", plain)
    for call in (
        lambda: engine.generate_speech("a", guidance=2),
        lambda: engine.generate_speech_stream(iter(["a"]), guidance=2),
        lambda: engine.speak(["a"], guidance=0),
    ):
        with pytest.raises(InvalidOption, match=r"guidance=\d: this Talker was never without its text") as caught:
            call()
        assert caught.value.param == "guidance"
    assert len(engine.generate_speech("a", guidance=1.0))


@pytest.mark.parametrize("pattern", ["delay", "depth"])
def test_codes_that_follow_each_other_are_the_most_likely_ones(engine, talker, monkeypatch, pattern):
    deep = Talker(**{**talker.options, "pattern": pattern}).eval()
    monkeypatch.setattr(engine.speaker, "talker", deep)
    for options in ({"guidance": 2}, {"code_penalty": 1}, {"code_temperature": 1.0}):
        with pytest.raises(InvalidOption, match=f"this one has pattern={pattern}") as caught:
            engine.generate_speech("a", **options)
        assert caught.value.param in options
    whole = engine.generate_speech(TEXT, look_ahead=3)
    pieces = [TEXT[begin : begin + 4] for begin in range(0, len(TEXT), 4)]
    assert torch.equal(torch.cat(list(engine.generate_speech_stream(pieces, look_ahead=3))), whole)


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="pip install 'muomni[world]'")
def test_phonemes_are_spoken_the_same_however_the_text_comes(engine, talker, monkeypatch):
    monkeypatch.setattr(engine.speaker, "talker", Talker(**{**talker.options, "reads": "phonemes"}).eval())
    for look_ahead in (None, 3):
        whole = engine.generate_speech(TEXT, look_ahead=look_ahead)
        pieces = [TEXT[begin : begin + 4] for begin in range(0, len(TEXT), 4)]
        assert torch.equal(torch.cat(list(engine.generate_speech_stream(pieces, look_ahead=look_ahead))), whole)
    one, _ = engine.speak(["the red circle", "who"])
    assert torch.equal(one.waveform, engine.generate_speech("the red circle"))
