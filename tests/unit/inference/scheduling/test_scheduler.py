"""The scheduler: every answer is that of the engine's single run, whatever else happens."""

import random
import threading
import time

import pytest
import torch

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer
from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.decoding.sampling import NOT_FINITE
from muomni.inference.engine import Engine
from muomni.inference.errors import Cancelled, InvalidOption, QueueFull
from muomni.inference.prompt import Request
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.special_tokens import EOS
from tests.unit.inference.conftest import tiny_thinker

WORDS = ["red", "blue", "circle", "square", "what", "tell", "me", "1", "2", "big", "zebra", "äß"]


@pytest.fixture
def scheduler(engine):
    made = Scheduler(engine, slots=4, max_queue=64, prefill_chunk=16)
    yield made
    made.close(grace=0)


def single(engine: Engine, request: Request, options: GenerationOptions) -> Answer:
    """The engine's own answer."""
    return engine.conversation(history=False).say(request, options).result()


def random_request(rng: random.Random, picture, sound) -> Request:
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
    images = [picture] if picture and rng.random() < 0.2 else []
    audios = [sound] if sound and rng.random() < 0.2 else []
    return Request(text=text, images=images, audios=audios)


def random_options(rng: random.Random) -> GenerationOptions:
    tokens, least = rng.choice([(1, 0), (2, 0), (5, 3), (12, 0), (20, 8)])
    changes = rng.choice([
        {}, {}, {"temperature": 0.7, "seed": rng.randint(0, 9)}, {"temperature": 0.7, "top_p": 0.9, "seed": rng.randint(0, 9)},
        {"temperature": 1.0, "top_k": 5, "seed": 3}, {"temperature": 1.0, "min_p": 0.1, "repetition_penalty": 1.3},
        {"repetition_penalty": 1.5}, {"stop": ("e", "bl")}, {"temperature": 0.9, "stop": ("ed",)},
        {"logprobs": 2}, {"logprobs": 0, "temperature": 0.9, "frequency_penalty": 0.5}, {"no_repeat_ngram": 2},
        {"logit_bias": {20: 5.0, 21: -9.0}, "presence_penalty": 0.3},
    ])  # fmt: skip
    return preset("greedy", max_new_tokens=tokens, min_new_tokens=least, **changes)


SHAPES = {
    "convolution": {},
    "window": {"window": 7},
    "experts": {"num_experts": 4, "short_conv": 0},
    "plain": {"short_conv": 0, "num_kv_heads": 4, "qk_norm": True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_do_not_depend_on_their_neighbours(shape, engine, tokenizer_path, picture, sound, receive):
    """Random arrivals, prompts, options and cancellations."""
    if shape != "convolution":
        engine = Engine(
            modules={"thinker": tiny_thinker(**SHAPES[shape])}, metadata={"stage": "omni_sft"}, where="test", format="chat",
            tokenizer=Tokenizer.load(tokenizer_path), device=torch.device("cpu"), vocoder="griffin_lim",
        )  # fmt: skip
        picture = sound = None
    rng = random.Random(shape)
    scheduler = Scheduler(engine, slots=3, prefill_chunk=16)
    submitted = []
    for index in range(24):
        request, options = random_request(rng, picture, sound), random_options(rng)
        if index % 5 == 4:
            request = rng.choice(submitted)[0]  # its beginning is in the cache
        receiver = receive()
        ticket = scheduler.submit(request, options, emit=receiver, client=rng.choice("abc"))
        submitted.append((request, options, receiver))
        if rng.random() < 0.2:
            threading.Timer(rng.random() / 100, ticket.cancel).start()
        if rng.random() < 0.3:
            time.sleep(rng.random() / 50)
    whole = 0
    for request, options, receiver in submitted:
        result, expected = receiver.wait(), single(engine, request, options)
        text = "".join(piece.text for piece in receiver.pieces)
        if isinstance(result, Cancelled):
            assert expected.text.startswith(text)
            continue
        assert isinstance(result, Answer), result
        assert result.text == text == expected.text
        assert (result.finish_reason, result.prompt_tokens) == (expected.finish_reason, expected.prompt_tokens)
        assert result.completion_tokens == result.timings.new_tokens == expected.completion_tokens
        assert all(piece.text or piece.tokens for piece in receiver.pieces)
        if options.logprobs is not None:
            assert [token for piece in receiver.pieces for token in piece.tokens] == result.logprobs
            for mine, its in zip(result.logprobs, expected.logprobs, strict=True):
                assert (mine.id, mine.text, mine.logprob) == (its.id, its.text, pytest.approx(its.logprob, abs=1e-4))
                assert [(top[0], top[1]) for top in mine.top] == [(top[0], top[1]) for top in its.top]
        whole += 1
    stats = scheduler.stats()
    scheduler.close(grace=1)
    assert whole > 12
    assert (stats.finished, stats.cancelled, stats.failed) == (whole, 24 - whole, 0)
    assert stats.active == stats.queued == 0
    assert 1 < stats.mean_batch <= 3
    assert stats.cached_tokens > 0


def test_the_history_of_a_conversation_is_not_read_again(engine, scheduler, picture, receive):
    options = preset("greedy", max_new_tokens=10)
    messages = [
        {"role": "user", "content": [{"type": "image", "image": str(picture)}, {"type": "text", "text": "red"}]}
    ]
    before = 0
    for turn in range(3):
        receiver = receive()
        scheduler.submit(Request(messages=messages), options, emit=receiver)
        answer = receiver.wait()
        assert isinstance(answer, Answer)
        expected = single(engine, Request(messages=messages), options)
        assert (answer.text, answer.prompt_tokens) == (expected.text, expected.prompt_tokens)
        assert answer.cached_tokens >= before, "all of the turns before"
        assert bool(answer.cached_tokens) is (turn > 0)
        before = answer.prompt_tokens
        messages += [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": "blue " * turn + "circle"},
        ]


def test_a_conversation_encodes_its_media_once(engine, receive):
    """Also if a later turn brings more of them: what the rows of the cache hold is found by the bits of the embeddings."""
    scheduler, options = Scheduler(engine, slots=2), preset("greedy", max_new_tokens=4)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, 40, 48), generator=generator, dtype=torch.uint8) for _ in range(2)]
    clip = 0.1 * torch.randn(5000, generator=generator)
    turns = [
        [{"type": "image", "image": pictures[0]}, {"type": "audio", "audio": clip}],
        [{"type": "image", "image": pictures[1]}, {"type": "text", "text": "red"}],
        [{"type": "text", "text": "2"}],
    ]
    messages, before = [], 0
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        receiver = receive()
        scheduler.submit(Request(messages=messages), options, emit=receiver)
        answer = receiver.wait()
        assert answer.text == single(engine, Request(messages=messages), options).text
        assert answer.cached_tokens >= before
        before = answer.prompt_tokens
        messages.append({"role": "assistant", "content": answer.text})
    scheduler.close(grace=1)
    assert (scheduler.encoded.misses, scheduler.encoded.hits) == (3, 2 + 3)


def test_another_image_is_another_prompt(engine, scheduler, picture, receive):
    other = torch.zeros(3, 40, 48, dtype=torch.uint8)
    for image, cached in ((picture, False), (picture, True), (other, False)):
        receiver = receive()
        scheduler.submit(Request(text="what", images=[image]), preset("greedy", max_new_tokens=8), emit=receiver)
        answer = receiver.wait()
        assert answer.text == engine.generate("what", image=image, max_new_tokens=8)
        assert bool(answer.cached_tokens) is cached


def test_clients_take_turns(engine, receive):
    scheduler = Scheduler(engine, slots=1)
    order: list[str] = []
    gate = threading.Event()
    first = receive()
    scheduler.submit(
        Request(text="a"), preset("greedy", max_new_tokens=1), emit=lambda item: (gate.wait(10), first(item))
    )
    ends = []
    for name in ("many", "many", "many", "few"):
        receiver = receive()
        ends.append(receiver)
        emit = lambda item, name=name, receiver=receiver: (order.append(name), receiver(item))  # noqa: E731
        scheduler.submit(Request(text=name), preset("greedy", max_new_tokens=1), emit=emit, client=name)
    gate.set()
    for receiver in ends:
        receiver.wait()
    scheduler.close(grace=1)
    last = [name for index, name in enumerate(order) if order[index + 1 : index + 2] != [name]]
    assert last.index("few") == 1, order


def test_the_queue_has_a_bound(engine, receive):
    scheduler = Scheduler(engine, slots=1, max_queue=2)
    gate, first = threading.Event(), receive()
    options = preset("greedy", max_new_tokens=3)
    scheduler.submit(Request(text="a"), options, emit=lambda item: (gate.wait(10), first(item)))
    while not scheduler.stats().active:
        time.sleep(0.001)
    waiting = [receive(), receive()]
    for receiver in waiting:
        scheduler.submit(Request(text="b"), options, emit=receiver)
    with pytest.raises(QueueFull) as caught:
        scheduler.submit(Request(text="c"), options, emit=receive())
    assert caught.value.retry_after >= 1
    assert "\n" not in str(caught.value)
    gate.set()
    assert all(isinstance(receiver.wait(), Answer) for receiver in waiting)
    scheduler.close(grace=1)


def test_requests_are_cancelled_wherever_they_are(engine, receive):
    scheduler = Scheduler(engine, slots=1)
    options, receivers = preset("greedy", max_new_tokens=None, min_new_tokens=90), [receive() for _ in range(3)]
    tickets = [scheduler.submit(Request(text="red"), options, emit=receiver) for receiver in receivers]
    tickets[1].cancel()
    assert isinstance(receivers[1].wait(), Cancelled)
    assert not receivers[1].pieces
    tickets[0].cancel()
    assert isinstance(receivers[0].wait(), Cancelled)
    assert isinstance(receivers[2].wait(), Answer)
    assert all(ticket.done for ticket in tickets)
    scheduler.close(grace=1)


def test_a_failed_receiver_ends_only_its_own_request(engine, scheduler, receive):
    def broken(item):
        raise RuntimeError("the client has gone")

    receiver = receive()
    ticket = scheduler.submit(Request(text="red"), preset("greedy", max_new_tokens=60), emit=broken)
    scheduler.submit(Request(text="blue"), preset("greedy", max_new_tokens=20), emit=receiver)
    assert receiver.wait().text == engine.generate("blue", max_new_tokens=20)
    while not ticket.done:
        time.sleep(0.001)


def test_what_can_be_known_at_once_is_raised_at_once(scheduler, receive, tmp_path):
    greedy = preset("greedy")
    for request, options, expected in (
        (Request(text="red " * 200), greedy, ValueError),
        (Request(text="red", images=[tmp_path / "none.png"]), greedy, (ValueError, FileNotFoundError)),
        (Request(text=" "), greedy, ValueError),
        (Request(text="red"), preset("beam"), InvalidOption),
        (Request(text="red"), preset("greedy", logit_bias={9999: 1}), InvalidOption),
    ):
        with pytest.raises(expected) as caught:
            scheduler.submit(request, options, emit=receive())
        assert "\n" not in str(caught.value)
    assert scheduler.stats().queued == 0
    with pytest.raises(InvalidOption, match="slots=0"):
        Scheduler(None, slots=0)  # type: ignore[arg-type]


def test_logits_that_are_not_finite_end_their_row_only(tokenizer_path, receive):
    thinker = tiny_thinker()
    tokenizer = Tokenizer.load(tokenizer_path)
    engine = Engine(
        modules={"thinker": thinker}, metadata={"stage": "omni_sft"}, where="test", format="chat", tokenizer=tokenizer,
        device=torch.device("cpu"), vocoder="griffin_lim",
    )  # fmt: skip
    expected = engine.generate("big blue square", max_new_tokens=40)
    harmless = {*tokenizer.encode("big blue square"), *tokenizer.encode(expected)}
    bad = next(token for token in tokenizer.encode("circle") if token not in harmless)
    with torch.no_grad():
        thinker.embedding.weight[bad] = torch.nan
    scheduler = Scheduler(engine, slots=3)
    for _ in range(3):  # the rows are used again
        good, broken = receive(), receive()
        scheduler.submit(Request(text="big blue square"), preset("greedy", max_new_tokens=40), emit=good)
        scheduler.submit(Request(text="circle"), preset("greedy", max_new_tokens=40), emit=broken)
        error = broken.wait()
        assert isinstance(error, ValueError)
        assert str(error) == NOT_FINITE
        assert good.wait().text == expected
    scheduler.close(grace=1)


def test_a_failed_step_ends_its_requests_and_nothing_else(engine, scheduler, monkeypatch, receive):
    options = preset("greedy", max_new_tokens=30)
    expected = engine.generate("red", generation=options)
    decode = scheduler.steps._decode
    monkeypatch.setattr(scheduler.steps, "_decode", lambda rows: (_ for _ in ()).throw(MemoryError("out of memory")))
    receivers = [receive(), receive()]
    for receiver in receivers:
        scheduler.submit(Request(text="red"), options, emit=receiver)
    assert all(isinstance(receiver.wait(), MemoryError) for receiver in receivers)
    monkeypatch.setattr(scheduler.steps, "_decode", decode)
    receiver = receive()
    scheduler.submit(Request(text="red"), options, emit=receiver)
    assert receiver.wait().text == expected
    assert scheduler.stats().failed == 2


class Digits:
    """At most three digits, then the end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.digits = [token for token in range(tokenizer.vocab_size) if tokenizer.piece(token).isdigit()]
        self.size, self.count = tokenizer.vocab_size, 0

    @property
    def accepting(self) -> bool:
        return self.count > 0

    def allowed(self) -> torch.Tensor:
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[self.digits] = self.count < 3
        mask[EOS] = self.accepting
        return mask

    def push(self, token: int) -> None:
        assert token in self.digits
        self.count += 1


def test_a_constraint_limits_its_own_row(engine, scheduler, receive):
    options = preset("greedy", max_new_tokens=20)
    free, bound = receive(), receive()
    scheduler.submit(Request(text="red"), options, emit=free)
    scheduler.submit(Request(text="red"), options, emit=bound, constraint=Digits(engine.tokenizer))
    assert free.wait().text == engine.generate("red", generation=options)
    answer = bound.wait()
    assert answer.text.isdigit()
    assert len(answer.text) <= 3
    assert answer.finish_reason == "stop"


def test_close_waits_and_then_cancels(engine, receive):
    scheduler = Scheduler(engine, slots=1)
    receiver = receive()
    scheduler.submit(Request(text="red"), preset("greedy", max_new_tokens=5), emit=receiver)
    scheduler.close(grace=30)
    assert isinstance(receiver.wait(), Answer)
    with pytest.raises(Cancelled, match="closed"):
        scheduler.submit(Request(text="red"), preset("greedy"), emit=receive())
    scheduler = Scheduler(engine, slots=1)
    receivers = [receive() for _ in range(3)]
    for receiver in receivers:
        scheduler.submit(Request(text="red"), preset("greedy", max_new_tokens=100), emit=receiver)
    scheduler.close(grace=0)
    assert [type(receiver.wait()) for receiver in receivers][1:] == [Cancelled, Cancelled]
