"""Threads that share an engine get what each gets alone."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from muomni.inference.prompt import Request


@pytest.fixture
def many_switches():
    """Python changes threads a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def talk(engine):
    conversation = engine.conversation()
    return [engine.chat(text, conversation=conversation, max_new_tokens=8) for text in ("what colour", "tell me")]


def stream_speech(engine):
    return torch.cat(list(engine.generate_speech_stream("tell me")))


def test_threads_get_what_each_gets_alone(engine, picture, sound, many_switches):
    def answered(**options):
        answer = engine.answer(max_new_tokens=10, **options)
        return answer.text, answer.completion_tokens, answer.timings.new_tokens, answer.logprobs

    tasks = {
        "image": lambda: answered(text="what colour is it", image=picture, logprobs=2),
        "audio": lambda: answered(audio=sound, no_repeat_ngram=2),
        "sampled": lambda: answered(text="tell me", generation="chat", seed=3),
        "beams": lambda: answered(text="tell me", num_beams=3),
        "batch": lambda: engine.generate_batch(["what colour", Request(images=[picture])], max_new_tokens=8),
        "conversation": lambda: talk(engine),
        "speech": lambda: engine.generate_speech("tell me"),
        "streamed speech": lambda: stream_speech(engine),
        "transcript": lambda: engine.transcribe(sound, beams=4),
        "words": lambda: engine.transcript(sound),
    }
    alone = {name: task() for name, task in tasks.items()}
    with ThreadPoolExecutor(len(tasks)) as pool:
        for _ in range(2):
            started = {name: pool.submit(task) for name, task in tasks.items()}
            for name, future in started.items():
                result = future.result(timeout=120)
                if isinstance(result, torch.Tensor):
                    assert torch.equal(result, alone[name]), name
                else:
                    assert result == alone[name], name


def test_an_engine_holds_no_state_of_a_call(engine):
    before = dict(vars(engine))
    engine.answer("tell me", max_new_tokens=2)
    assert vars(engine) == before and not hasattr(engine, "timings")
