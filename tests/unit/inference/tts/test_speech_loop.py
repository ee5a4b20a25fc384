"""A text is spoken while it is written: the samples are those of the whole text, however it comes; nothing hangs."""

import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.inference.decoding import row_blocks
from muomni.inference.decoding.native import library
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import InvalidOption, TextStalled
from muomni.inference.patience import patient
from muomni.inference.tts.speech_plan import SpeechPlan

TEXT = "the red circle is on the left of the big blue square. It was 7 - 2 = 5, who likes it?"


@pytest.fixture(autouse=True)
def fast_and_various(engine, monkeypatch):
    """Few iterations, short durations, and a stop that is reached after some frames."""
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    talker = engine.speaker.talker
    kept = {name: value.clone() for name, value in talker.state_dict().items()}
    with torch.no_grad():
        talker.stop.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(3))
        talker.stop.bias.fill_(-4.0)
        talker.text.step.bias.fill_(-0.6)
    yield
    talker.load_state_dict(kept)


def cut(text, ends):
    ends = sorted({0, len(text), *(end % (len(text) + 1) for end in ends)})
    return [text[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]


@pytest.mark.parametrize("look_ahead", [None, 0, 6, 20])
def test_pieces_have_the_samples_of_the_whole(engine, look_ahead):
    whole = engine.generate_speech(TEXT, voice=1, look_ahead=look_ahead)

    @settings(max_examples=6, deadline=None)
    @given(st.lists(st.integers(0, 200), max_size=20))
    def compare(ends):
        chunks = engine.generate_speech_stream(iter(cut(TEXT, ends)), voice=1, look_ahead=look_ahead)
        assert torch.equal(torch.cat(list(chunks)), whole)

    compare()
    assert torch.equal(
        torch.cat(list(engine.generate_speech_stream(list(TEXT), voice=1, look_ahead=look_ahead))), whole
    )


@pytest.mark.skipif(not library.available(), reason="no C++ compiler")
def test_a_sentence_that_is_being_written_keeps_the_path_that_it_began_with(engine, monkeypatch):
    """Its frames are read again whenever its text grows; operators that are built meanwhile are for the next sentence."""
    ready, steps = [False], []
    monkeypatch.setattr(row_blocks.library, "ready", lambda: ready[0])
    operator, begin = torch.ops.muomni.row_block, engine.speaker.begin
    monkeypatch.setattr(torch.ops.muomni, "row_block", lambda *each: steps.append(each) or operator(*each))
    sentence = "the red circle is on the left"
    expected = engine.generate_speech(sentence, look_ahead=3)

    def begun(*arguments, **options):
        begins.append(arguments)
        made = begin(*arguments, **options)
        ready[0] = True
        return made

    begins = []
    monkeypatch.setattr(engine.speaker, "begin", begun)
    chunks = engine.generate_speech_stream(list(sentence), look_ahead=3)
    assert torch.equal(torch.cat(list(chunks)), expected)
    assert len(begins) > 1 and not steps
    engine.generate_speech(sentence, look_ahead=3)
    assert steps


def test_a_look_ahead_over_the_whole_sentence_is_none(engine):
    assert torch.equal(engine.generate_speech(TEXT, look_ahead=1000), engine.generate_speech(TEXT))
    assert not torch.equal(engine.generate_speech(TEXT, look_ahead=0), engine.generate_speech(TEXT))


def test_the_first_sound_comes_within_the_first_sentence(engine):
    """After its words, and those of the look-ahead; the sound so far is a part of the whole."""

    def first_sound(look_ahead):
        given = []

        def pieces():
            for word in TEXT.split():
                given.append(word)
                yield word + " "

        chunk = next(engine.generate_speech_stream(pieces(), look_ahead=look_ahead, patience=None))
        whole = engine.generate_speech(TEXT, look_ahead=look_ahead)
        assert torch.equal(chunk, whole[: len(chunk)])
        return len(given)

    words = [first_sound(look_ahead) for look_ahead in (0, 8, None)]
    assert words[0] < words[1] < 12 < words[2] == 13  # the first word of the second sentence ends the first


def test_no_frame_depends_on_what_is_beyond_the_look_ahead(engine):
    """Two texts that go on differently: what was spoken before they differ is the same."""
    begin, speaker = "the red circle is on the left of ", engine.speaker
    codes = []
    for end in ("the big blue square", "some other thing that it likes"):
        plan = SpeechPlan(speaker, engine.tokenizer, look_ahead=5)
        plan.feed(begin + end)
        plan.close()
        steps = []
        while plan.has_text:
            if plan.look():
                steps.append(plan.take())
        codes.append(steps)
    same = [one.text for one, other in zip(*codes, strict=False) if one == other]
    assert same[-1] == "the red circle is on the left"
    assert codes[0][-1].text == "the red circle is on the left of the big blue square" and codes[0][-1].limit
    assert all(step.limit is None for step in codes[0][:-1])
    assert [step.begins for step in codes[0]] == [True] + [False] * (len(codes[0]) - 1)
    spoken = speaker.frames_before(same[-1], voice=0, look_ahead=5)
    assert 0 < spoken < speaker.frames_before(same[-1], voice=0, look_ahead=0)
    assert speaker.frames_before("ab", voice=0, look_ahead=5) == 0


def test_a_sentence_that_is_too_long_is_spoken_in_parts(engine, monkeypatch):
    monkeypatch.setattr(engine.speaker.talker, "max_frames", 30)
    text = "what colour is the circle that he likes and " * 6
    timings = Timings()
    chunks = list(engine.generate_speech_stream(text, look_ahead=4, timings=timings))
    words = iter(cut(text, range(0, 300, 7)))
    assert torch.equal(torch.cat(chunks), torch.cat(list(engine.generate_speech_stream(words, look_ahead=4))))
    assert timings.frames > 2 * 30


def test_an_answer_is_spoken_while_it_is_generated(engine):
    options = {"max_new_tokens": 24, "look_ahead": 3}
    came = list(engine.generate_spoken_stream("what", **options))
    texts = [each for each in came if isinstance(each, str)]
    text = engine.generate("what", max_new_tokens=24)
    assert "".join(texts) == text
    sounds = [each for each in came if not isinstance(each, str)]
    assert torch.equal(torch.cat(sounds), engine.generate_speech(text, look_ahead=3))


def test_an_answer_without_words_is_text_alone(engine, monkeypatch, caplog):
    monkeypatch.setattr(type(engine), "generate_stream", lambda self, text, **options: iter(["...", "!"]))
    assert list(engine.generate_spoken_stream("what")) == ["...", "!"]
    assert "nothing in the text can be spoken" in caplog.text


# --- what is wrong with a text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("look_ahead", [None, 5])
def test_a_text_without_words_is_one_line(engine, look_ahead):
    with pytest.raises(InvalidOption, match=r"nothing in '...' can be spoken"):
        engine.generate_speech_stream("...", look_ahead=look_ahead)
    for pieces in (["..", "."], iter(["..", "."])):
        with pytest.raises(InvalidOption, match=r"nothing in '...' can be spoken"):
            list(engine.generate_speech_stream(pieces, look_ahead=look_ahead))
    for pieces in ([], iter(["", " "])):
        with pytest.raises(InvalidOption, match="an empty text cannot be spoken"):
            list(engine.generate_speech_stream(pieces, look_ahead=look_ahead))


def test_options_that_are_none(engine):
    for look_ahead in (-1, 2.5, True, 10_000):
        with pytest.raises(InvalidOption, match="look_ahead=.*a number of characters"):
            engine.generate_speech_stream("tell me", look_ahead=look_ahead)
    with pytest.raises(InvalidOption, match="text: a string is needed, not int"):
        list(engine.generate_speech_stream(["tell", 3]))
    with pytest.raises(InvalidOption, match="patience=0"):
        list(engine.generate_speech_stream(iter(["tell"]), patience=0))
    with pytest.raises(InvalidOption, match="unknown voice 9"):
        engine.generate_speech_stream(iter(["tell"]), voice=9)


def test_what_has_no_words_is_named_once_at_the_end(engine, caplog):
    list(engine.generate_speech_stream(["tell \U0001f600 me. ", "tell \U0001f600 日"], look_ahead=3))
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        "'tell \U0001f600 me. tell \U0001f600 日': cannot be spoken, left out: '\U0001f600', '日'"
    ]


def test_a_text_that_stalls_ends_with_a_line_after_what_could_be_said(engine):
    block = threading.Event()

    def stalls():
        yield "tell me. and"
        block.wait(30)

    begun, chunks = time.monotonic(), []
    spoken = engine.generate_speech_stream(stalls(), patience=0.3)
    with pytest.raises(TextStalled, match="the text has stalled after 'tell me. and': nothing came for 0.3 s"):
        chunks.extend(spoken)  # keeps what came before the error
    block.set()
    assert time.monotonic() - begun < 20
    assert torch.equal(torch.cat(chunks), engine.generate_speech("tell me."))


def test_an_error_of_the_text_is_raised_and_no_thread_reads_on():
    def broken():
        yield "a"
        raise OSError("the line is cut")

    pieces = patient(broken(), 5.0)
    assert next(pieces) == "a"
    with pytest.raises(OSError, match="the line is cut"):
        next(pieces)
    read = []

    def endless():
        while True:
            read.append(1)
            yield "a"
            time.sleep(0.001)

    pieces = patient(endless(), 5.0)
    assert next(pieces) == "a"
    pieces.close()
    time.sleep(0.1)
    count = len(read)
    time.sleep(0.1)
    assert len(read) == count
    with pytest.raises(TextStalled, match="before its first piece"):
        next(patient((time.sleep(1) for _ in range(1)), 0.05))
