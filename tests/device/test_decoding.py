"""How often decoding makes the host wait for the device: a table, on a GPU that the CPU pretends to be (fake_cuda.py).

A batch's rows are looked at once in SYNC_EVERY steps, and nothing else waits; a conversation and a stream of speech read
each token as it is shown. What a whole answer pays once (its prompt, its limits, its ids) is not counted: the table is the
difference between a longer answer and a shorter one.
"""

import pytest
import torch

from muomni.inference.decoding.compiled import TOKENS_PER_CALL, Compiled
from muomni.inference.decoding.generate import SYNC_EVERY
from muomni.inference.decoding.timings import Timings
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.inference.tts.speech_loop import SpeechLoop
from muomni.inference.tts.speech_plan import Step
from muomni.special_tokens import EOS
from tests.device.cuda_graphs import recorded_graphs
from tests.device.fake_cuda import CUDA, FakeCuda, fake_cuda

SHORT, MORE = (
    SYNC_EVERY + 1,
    2 * SYNC_EVERY,
)  # tokens of the shorter answer, and by how many the longer one is longer
GREEDY = {"temperature": 0.0}
CHANCE = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2}
TEXTS = {1: ["a red circle"], 3: ["a red circle", "what", "tell me 1 2 3"]}


@pytest.fixture(scope="module")
def loaded(export) -> Engine:
    """Of its own: its parts go to the GPU, and the Talker never stops."""
    engine = load_model(export, device="cpu")
    engine.modules["talker"].stop.bias.data.fill_(-1e4)
    engine.modules["thinker"].head.weight.data[EOS] = 0.0
    return engine


@pytest.fixture
def gpu(loaded):
    with fake_cuda() as gpu:
        for part in loaded.modules.values():
            gpu.move(part)
        loaded.device = loaded.prompter.device = CUDA
        yield gpu


def waits(gpu: FakeCuda, answer) -> int:
    """Of the tokens by which the longer answer is longer."""
    counts = []
    for length in (SHORT, SHORT + MORE):
        gpu.counted()
        assert answer(length) == length, "it ended before its limit"
        counts.append(gpu.counted())
    more = {place: count - counts[0].get(place, 0) for place, count in counts[1].items()}
    return sum(more.values())


@pytest.mark.parametrize("rows", TEXTS)
@pytest.mark.parametrize("options", [GREEDY, CHANCE], ids=["greedy", "chance"])
def test_a_batch_of_answers_waits_once_in_eight_tokens(gpu, loaded, options, rows):
    def answer(length):
        answers = loaded.answer_batch(TEXTS[rows], max_new_tokens=length, **options)
        return answers[0].timings.new_tokens // rows

    assert waits(gpu, answer) == MORE // SYNC_EVERY


@pytest.mark.parametrize("options", [GREEDY, CHANCE], ids=["greedy", "chance"])
def test_a_conversation_waits_once_a_token(gpu, loaded, options):
    conversation = loaded.conversation()

    def answer(length):
        return loaded.answer(
            "a red circle", conversation=conversation, max_new_tokens=length, **options
        ).completion_tokens

    assert waits(gpu, answer) == MORE


@pytest.mark.parametrize(("options", "rows"), [(GREEDY, 1), (CHANCE, 3)], ids=["greedy-1", "chance-3"])
def test_a_recorded_step_gives_the_tokens_of_the_eager_one(gpu, loaded, options, rows, monkeypatch):
    """Four tokens a replay, copies of nothing but what is on the device, and one wait in eight tokens as before."""

    seed = {"seed": 3} if options is CHANCE else {}

    def answers(length):
        return loaded.answer_batch(TEXTS[rows], max_new_tokens=length, **options, **seed)

    eager = [answer.text for answer in answers(SHORT)]
    monkeypatch.setattr(Compiled, "_package", lambda self, step, arguments: lambda each: step(*each))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # as the compiled step computes
    monkeypatch.setattr(loaded, "runtime", Compiled(loaded.modules["thinker"], mode="max", packages=None))
    with recorded_graphs() as graphs:
        assert [answer.text for answer in answers(SHORT)] == eager
        assert [graph.replays for graph in graphs] == [-(-(SHORT - 1) // TOKENS_PER_CALL)]
        assert waits(gpu, lambda length: answers(length)[0].timings.new_tokens // rows) == MORE // SYNC_EVERY


def test_beams_wait_once_in_eight_tokens(gpu, loaded):
    def answer(length):
        answers = loaded.answer_batch(TEXTS[3], max_new_tokens=length, num_beams=2)
        return answers[0].timings.new_tokens // 3

    assert waits(gpu, answer) == MORE // SYNC_EVERY


@pytest.mark.parametrize("rows", TEXTS)
def test_the_talker_waits_once_in_eight_frames(gpu, loaded, rows):
    def answer(length):
        timings = Timings()
        loaded.speaker.codes(TEXTS[rows], limits=[length] * rows, voices=[0] * rows, timings=timings)
        return timings.frames // rows

    assert waits(gpu, answer) == MORE // SYNC_EVERY


def test_streamed_frames_are_read_one_by_one(gpu, loaded):
    def answer(length):
        timings = Timings()
        loop = SpeechLoop(loaded.speaker, None, voice=0, look_ahead=None, timings=timings, ended=lambda _: None)
        return sum(1 for _ in loop.frames(Step("a red circle", begins=True, limit=length), length))

    assert waits(gpu, answer) == MORE


def test_what_is_spoken_keeps_to_one_device(gpu, loaded):
    loaded.speaker.talker.max_frames = 30
    whole = loaded.generate_speech("a red circle")
    assert torch.equal(torch.cat(list(loaded.generate_speech_stream("a red circle"))), whole)
    assert whole.device.type == "cpu"
