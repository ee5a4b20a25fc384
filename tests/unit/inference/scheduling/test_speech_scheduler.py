"""The speech scheduler: every request is spoken as by the engine alone, whatever else happens."""

import queue
import random
import threading
import time

import pytest
import torch

from muomni.inference.errors import Cancelled, InvalidOption, QueueFull
from muomni.inference.scheduling.speech_request import SpeechDone
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.inference.tts.speaker import Speaker

WORDS = ["red", "blue", "circle", "square", "what", "tell", "me", "1", "22", "big.", "zebra!", "is it?"]


class Listener:
    """What a request emits."""

    def __init__(self):
        self.items, self.chunks = queue.Queue(), []

    def __call__(self, item):
        self.items.put(item)

    def wait(self, seconds=60):
        """The last item; `chunks` are those before it."""
        while isinstance(item := self.items.get(timeout=seconds), torch.Tensor):
            self.chunks.append(item)
        assert self.items.empty()
        return item


@pytest.fixture(autouse=True)
def fast_and_various(engine, monkeypatch):
    """Few iterations, and a stop that is reached after some frames: random weights never stop by themselves."""
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    stop = engine.speaker.talker.stop
    kept = stop.weight.detach().clone(), stop.bias.detach().clone()
    with torch.no_grad():
        stop.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(3))
        stop.bias.fill_(-4.0)
    yield
    with torch.no_grad():
        stop.weight.copy_(kept[0])
        stop.bias.copy_(kept[1])


@pytest.fixture
def scheduler(engine):
    made = SpeechScheduler(engine, slots=3, max_queue=64)
    yield made
    made.close(grace=0)


def test_speech_does_not_depend_on_its_neighbours(engine, scheduler):
    """Random arrivals, texts, voices and cancellations: the samples are those of the engine."""
    rng = random.Random(0)
    submitted = []
    for _ in range(12):
        text, voice, listener = " ".join(rng.choices(WORDS, k=rng.randint(1, 5))), rng.randint(0, 1), Listener()
        ticket = scheduler.submit(text, voice=voice, emit=listener, client=rng.choice("abc"))
        submitted.append((text, voice, listener, ticket))
        time.sleep(rng.choice([0, 0, 0.01, 0.05]))
        if rng.random() < 0.25:
            rng.choice(submitted)[3].cancel()
    lengths, cancelled = set(), 0
    for text, voice, listener, ticket in submitted:
        result = listener.wait()
        assert ticket.done
        if isinstance(result, Cancelled):
            cancelled += 1
            continue
        assert isinstance(result, SpeechDone)
        (alone,) = engine.speak([text], voices=[voice])
        assert torch.equal(result.codes, alone.codes)
        assert torch.equal(torch.cat(listener.chunks), alone.waveform)
        assert result.truncated == alone.truncated
        assert result.timings.frames == len(alone.codes)
        lengths.add(len(alone.codes))
    stats = scheduler.stats()
    assert len(lengths) > 5
    assert (stats.finished, stats.cancelled, stats.failed) == (12 - cancelled, cancelled, 0)
    assert stats.mean_batch > 1
    assert (stats.active, stats.queued) == (0, 0)


def test_chunks_come_while_the_talker_speaks(engine, scheduler):
    frames = []
    done = threading.Event()

    def emit(item):
        frames.append(scheduler.counts["frames"])
        if not isinstance(item, torch.Tensor):
            done.set()

    scheduler.submit("what colour is the big circle", emit=emit)
    assert done.wait(60)
    assert frames[0] < frames[-1]


def test_a_text_that_is_still_being_written(engine, scheduler):
    whole = "tell me. what colour is it? 1 red circle"
    listener = Listener()
    ticket = scheduler.submit(["tell", " me."], emit=listener, more=True)
    with pytest.raises(queue.Empty):
        listener.items.get(timeout=0.05)  # the sentence may go on
    scheduler.feed(ticket, " what")
    first = listener.items.get(timeout=60)
    scheduler.feed(ticket, " colour is it? 1 red")
    scheduler.feed(ticket, " circle")
    scheduler.finish(ticket)
    result = listener.wait()
    assert result.sentences == 3
    assert torch.equal(torch.cat([first, *listener.chunks]), engine.generate_speech(whole))
    with pytest.raises(InvalidOption, match="finished"):
        scheduler.feed(ticket, "more")


def test_texts_that_are_written_and_spoken_within_their_sentences(engine, scheduler):
    """Several at once, each with its look-ahead and in its own pieces: the samples are those of the engine."""
    rng, running = random.Random(1), []
    for _ in range(6):
        text = " ".join(rng.choices([*WORDS, "the", "left", "of", "and"], k=rng.randint(6, 14)))
        look_ahead, voice, listener = rng.choice([0, 4, 12, None]), rng.randint(0, 1), Listener()
        ticket = scheduler.submit("", voice=voice, look_ahead=look_ahead, emit=listener, more=True)
        running.append((text, look_ahead, voice, listener, ticket))
    left = {index: text for index, (text, *_) in enumerate(running)}
    while left:
        index = rng.choice(list(left))
        size = rng.randint(1, 12)
        scheduler.feed(running[index][-1], left[index][:size])
        left[index] = left[index][size:]
        if not left[index]:
            scheduler.finish(running[index][-1])
            del left[index]
        time.sleep(rng.choice([0, 0.005]))
    for text, look_ahead, voice, listener, _ in running:
        result = listener.wait()
        assert isinstance(result, SpeechDone), result
        alone = engine.generate_speech(text, voice=voice, look_ahead=look_ahead)
        assert torch.equal(torch.cat(listener.chunks), alone)
    assert scheduler.stats().mean_batch > 1


def test_sound_comes_before_the_sentence_is_written(engine, scheduler):
    listener = Listener()
    ticket = scheduler.submit("what colour is the big circle on ", emit=listener, look_ahead=2, more=True)
    first = listener.items.get(timeout=60)
    scheduler.feed(ticket, "the left of it")
    scheduler.finish(ticket)
    listener.wait()
    whole = engine.generate_speech("what colour is the big circle on the left of it", look_ahead=2)
    assert torch.equal(torch.cat([first, *listener.chunks]), whole)
    with pytest.raises(InvalidOption, match="look_ahead=-1"):
        scheduler.submit("tell me", emit=listener, look_ahead=-1)


def test_a_long_text_begins_before_all_of_it_is_in_words(scheduler, monkeypatch):
    said, found = [], Speaker.in_words
    monkeypatch.setattr(Speaker, "in_words", lambda self, text: said.append(text) or found(self, text))
    listener = Listener()
    ticket = scheduler.submit("tell me. " * 3000 + "1" * 60_000, emit=listener)
    assert listener.items.get(timeout=60).numel()
    ticket.cancel()
    assert isinstance(listener.wait(), Cancelled)
    assert len(said) < 1000


def test_a_text_without_words(scheduler):
    with pytest.raises(ValueError, match="nothing in"):
        scheduler.submit("...", emit=Listener())
    listener = Listener()
    scheduler.finish(scheduler.submit("...", emit=listener, more=True))
    assert "nothing in the text" in str(listener.wait())
    with pytest.raises(ValueError, match="unknown voice 7"):
        scheduler.submit("tell me", voice=7, emit=Listener())


def test_an_exception_ends_its_request_only(engine, scheduler, monkeypatch):
    begin = engine.speaker.begin

    def fails(texts, *rest, **options):
        if "zebra" in texts[0]:
            raise RuntimeError("broken")
        return begin(texts, *rest, **options)

    monkeypatch.setattr(engine.speaker, "begin", fails)
    good, bad, deaf = Listener(), Listener(), Listener()

    def refuses(item):
        deaf(item)
        raise OSError("gone")

    scheduler.submit("what colour", emit=good)
    scheduler.submit("the zebra", emit=bad)
    scheduler.submit("what colour is the circle", emit=refuses)
    assert isinstance(good.wait(), SpeechDone)
    assert str(bad.wait()) == "broken"
    assert isinstance(deaf.wait(), Cancelled)  # a receiver that fails takes no more chunks
    again = Listener()
    scheduler.submit("what colour", emit=again)
    assert isinstance(again.wait(), SpeechDone)


def test_numbers_that_are_not_finite_end_their_request_only(engine, scheduler, monkeypatch):
    decode_step = engine.speaker.talker.decode_step

    def breaks(codes, *, frame, cache):
        out = decode_step(codes, frame=frame, cache=cache)
        if len(codes) > 1:
            out.logits[1] = float("nan")
        return out

    monkeypatch.setattr(engine.speaker.talker, "decode_step", breaks)
    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        scheduler.submit("what colour is it", emit=listener)
    results = [listener.wait() for listener in listeners]
    assert isinstance(results[0], SpeechDone)
    assert any("not finite" in str(result) or "NaN" in str(result) for result in results[1:])


def test_the_queue_is_bounded_and_fair(engine):
    scheduler = SpeechScheduler(engine, slots=1, max_queue=4)
    order = []
    open_ticket = scheduler.submit("", emit=Listener(), more=True)  # holds the slot
    while scheduler.stats().active == 0:
        time.sleep(0.01)
    listeners = []
    for client in ("a", "a", "a", "b"):
        listener = Listener()
        listeners.append(listener)

        def emit(item, client=client, listener=listener):
            if not isinstance(item, torch.Tensor):
                order.append(client)
            listener(item)

        scheduler.submit("me", emit=emit, client=client)
    with pytest.raises(QueueFull, match="4 texts are waiting") as error:
        scheduler.submit("me", emit=Listener(), client="b")
    assert error.value.retry_after >= 1
    open_ticket.cancel()
    for listener in listeners:
        assert isinstance(listener.wait(), SpeechDone)
    assert order == ["a", "b", "a", "a"]
    scheduler.close(grace=1)


def test_closing_waits_and_then_cancels(engine):
    scheduler, spoken = SpeechScheduler(engine), Listener()
    scheduler.submit("what colour is it", emit=spoken)
    scheduler.close(grace=60)
    assert isinstance(spoken.wait(), SpeechDone)
    with pytest.raises(Cancelled, match="closed"):
        scheduler.submit("me", emit=Listener())
    scheduler, unfinished = SpeechScheduler(engine), Listener()
    scheduler.submit("tell me. and", emit=unfinished, more=True)
    scheduler.close(grace=0)
    assert isinstance(unfinished.wait(), Cancelled)
    with pytest.raises(InvalidOption, match="slots=0"):
        SpeechScheduler(engine, slots=0)


def test_a_cancel_in_the_middle_of_an_iteration_never_looks_finished(engine):
    """The last block is rendered, and not emitted, since its request was cancelled meanwhile."""
    scheduler = SpeechScheduler(engine, slots=1, max_queue=4)
    listener = Listener()
    ticket = scheduler.submit("red", emit=listener, more=True)
    speech = ticket.speech
    render = speech.render

    def cancelled_meanwhile():
        ticket.cancelled = True  # without waking the thread, as from another one at this very moment
        return render()

    speech.render = cancelled_meanwhile
    scheduler.feed(ticket, " big.")
    scheduler.finish(ticket)
    time.sleep(0.3)
    ticket.cancel()
    assert isinstance(listener.wait(), Cancelled)
    scheduler.close(grace=0)
