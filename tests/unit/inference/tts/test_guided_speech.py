"""A Talker that durations guide says the same alone, in a batch, as a stream, while the text is written, and among others."""

import queue

import pytest
import torch

from muomni.checkpoints.export import load_export, save_export
from muomni.inference.decoding.row_blocks import with_row_blocks
from muomni.inference.decoding.timings import Timings
from muomni.inference.scheduling.speech_request import SpeechDone
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.models.talker import Talker

TEXT = "the red circle is on the left of the big blue square. It was 7 - 2 = 5, who likes it?"


@pytest.fixture(autouse=True, params=["parallel", "delay", "depth"])
def guided(engine, monkeypatch, request):
    """The engine speaks with a Talker of random weights whose characters last about half a frame."""
    torch.manual_seed(5)
    made = {"alignment": "durations", "max_frames": 80, "pattern": request.param}
    talker = Talker(**{**engine.speaker.talker.options, **made}).eval()
    with torch.no_grad():
        talker.text.step.weight.normal_(std=0.05)
        talker.text.step.bias.fill_(-0.7)
    monkeypatch.setattr(engine.speaker, "talker", with_row_blocks(talker))
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    return talker


def test_speech_is_as_long_as_its_durations_and_never_cut(engine, guided):
    texts = ["the red circle", "who", "a blue square is on the left"]
    said, cut = engine.speaker.say(texts, [0, 1, 0])
    assert [len(row) for row in said] == [
        max(round(frames), 1) for frames in engine.speaker.predicted_frames(texts, [0, 1, 0])
    ]
    assert not any(cut) and len({len(row) for row in said}) == 3


def test_a_batch_has_the_codes_of_each_alone(engine):
    texts, voices = ["the red circle", "who", "a blue square is on the left"], [0, 1, 1]
    together, _ = engine.speaker.say(texts, voices)
    for row, text, voice in zip(together, texts, voices, strict=True):
        assert torch.equal(row, engine.speaker.say([text], [voice])[0][0])


@pytest.mark.parametrize("look_ahead", [None, 0, 6])
def test_a_stream_has_the_samples_of_the_whole(engine, look_ahead):
    whole = engine.generate_speech(TEXT, voice=1, look_ahead=look_ahead)
    for size in (1, 5, 31):
        pieces = [TEXT[begin : begin + size] for begin in range(0, len(TEXT), size)]
        timings = Timings()
        chunks = list(engine.generate_speech_stream(pieces, voice=1, look_ahead=look_ahead, timings=timings))
        assert torch.equal(torch.cat(chunks), whole)
        assert not timings.speech_cut


def test_a_look_ahead_over_the_whole_sentence_is_none(engine):
    assert torch.equal(engine.generate_speech(TEXT, look_ahead=1000), engine.generate_speech(TEXT))


def test_many_at_once_have_the_samples_of_each_alone(engine):
    scheduler = SpeechScheduler(engine, slots=3, max_queue=8)
    listeners = [queue.Queue() for _ in range(5)]
    texts = [TEXT, "the red circle", "who", "a blue square", "is it?"]
    try:
        for number, (text, listener) in enumerate(zip(texts, listeners, strict=True)):
            scheduler.submit(text, voice=number % 2, emit=listener.put)
        for number, (text, listener) in enumerate(zip(texts, listeners, strict=True)):
            chunks = []
            while isinstance(item := listener.get(timeout=60), torch.Tensor):
                chunks.append(item)
            assert isinstance(item, SpeechDone) and not item.truncated
            assert torch.equal(torch.cat(chunks), engine.generate_speech(text, voice=number % 2))
    finally:
        scheduler.close(grace=0)


def test_an_export_remembers_its_alignment(engine, guided, tmp_path):
    """And is loaded strictly: weights of a Talker without durations do not fit."""
    codec = engine.modules["codec"]
    save_export(tmp_path / "talker", {"talker": guided, "codec": codec}, files={}, metadata={"stage": "talker"})
    again = load_export(tmp_path / "talker", ["talker"]).modules["talker"]
    assert again.alignment == "durations"
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in guided.state_dict().items())
    text = (tmp_path / "talker" / "model.yaml").read_text().replace("alignment: durations", "alignment: free")
    (tmp_path / "talker" / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match="talker"):
        load_export(tmp_path / "talker", ["talker"])
