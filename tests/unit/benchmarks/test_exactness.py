"""What counts as the same answer."""

from types import SimpleNamespace

from benchmarks.serving.exactness import Compared
from muomni.inference.answer import Answer
from muomni.inference.decoding.timings import Timings


def answer(text, tokens):
    return Answer(text, "length", 1, 0, tokens, None, Timings())


def test_tokens_from_the_first_other_character_on_differ():
    prompter = SimpleNamespace(tokenizer=SimpleNamespace(encode=lambda text: text.split()))
    engine, compared = SimpleNamespace(require_prompter=lambda: prompter), Compared()
    compared.add(engine, answer("a b c", 3), answer("a b c", 3))
    assert (compared.answers, compared.tokens, compared.differing_answers) == (1, 3, 0)
    compared.add(engine, answer("a b x y", 4), answer("a b c d", 4))
    assert (compared.differing_answers, compared.differing_tokens) == (1, 2)
    compared.add(engine, answer("a b", 2), answer("a b", 3))  # other tokens spell the same text
    assert (compared.answers, compared.tokens, compared.differing_answers, compared.differing_tokens) == (3, 10, 2, 3)
