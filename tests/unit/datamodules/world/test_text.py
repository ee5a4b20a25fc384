"""Documents: probabilities sum to one, held-out things stay out, facts are the same everywhere."""

import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence

import pytest

from datamodules.world import WorldSpec
from datamodules.world.arithmetic import Arithmetic
from datamodules.world.facts import Facts
from datamodules.world.lexicon import THINGS
from datamodules.world.questions import question_alone
from datamodules.world.rng import Choices, content_split, item_rng
from datamodules.world.text import MOST_QUESTIONS, TextWorld, documents, text_questions
from datamodules.world.wording import Wording

WORDING = Wording(rotation=0, canonical=0.5)


class Enumerator(Choices):
    """Choices that follow a given path, then the first option; remembers how many options each choice had."""

    def __init__(self, path: list[int]):
        super().__init__(random.Random(0))
        self.path = path
        self.sizes: list[int] = []

    def index(self, count: int) -> int:
        self.sizes.append(count)
        return self.path[len(self.sizes) - 1] if len(self.sizes) <= len(self.path) else 0

    def weighted_index(self, weights: Sequence[float]) -> int:
        return self.index(len(weights))


def every_outcome(writer) -> list[tuple[str, float]]:
    """(text, log-probability) of every way through a writer."""
    found, path = [], []
    while True:
        choices = Enumerator(path)
        found.append((writer(choices), choices.logprob))
        path = [*path, *[0] * (len(choices.sizes) - len(path))]
        while path and path[-1] + 1 == choices.sizes[len(path) - 1]:
            path.pop()
        if not path:
            return found
        path[-1] += 1


@pytest.fixture(scope="module")
def world() -> TextWorld:
    return TextWorld(WorldSpec.of("ci", people=16))


@pytest.mark.parametrize("name", ["statement", "question", "sum", "caption", "sentence", "picture question"])
def test_log_probabilities_sum_to_one_and_no_text_arises_twice(world: TextWorld, name: str) -> None:
    writers = {
        "statement": world.facts.statement,
        "question": lambda choices: str(world.facts.question(FewForms(choices), "document")),
        "sum": lambda choices: str(world.arithmetic.draw(choices)),
        # one thing with its place, and everything that can be asked of it
        "caption": lambda choices: world.caption(OneThing(choices)),
        "sentence": lambda choices: world.sentence(OneThing(choices)),
        "picture question": lambda choices: question_alone(OneThing(choices), world.wording, world.pairs),
    }
    outcomes = every_outcome(writers[name])
    total: dict[str, float] = defaultdict(float)
    for text, logprob in outcomes:
        total[text] += math.exp(logprob)
    assert len(total) == len(outcomes) > 10
    assert sum(total.values()) == pytest.approx(1, abs=1e-9)


class FewForms:
    """Passes choices through, except that only the first few are possible (to enumerate less)."""

    def __init__(self, choices: Choices):
        self.choices = choices

    def weighted(self, options, weights):
        return self.choices.weighted(options[:3], weights[:3])

    def pick(self, options):
        return self.choices.pick(options[:2])


class OneThing:
    """Passes choices through, except that a caption has one big thing, of few colours and shapes, at the top left, and at
    most two questions, in two forms and typed without errors (to enumerate less)."""

    def __init__(self, choices: Choices):
        self.choices = choices

    def weighted(self, options, weights):
        few = 1 if options == (False, True) and weights[0] > weights[1] else 2
        return self.choices.weighted(options[:few], weights[:few])

    def pick(self, options):
        if options == range(1, MOST_QUESTIONS + 1):
            options = (1, 2)
        if options in (range(1, 5), list(range(9)), (0, 1)):
            return options[0]
        return self.choices.pick(options[:2] if len(options) > 6 else options)


def test_weighted_choice_counts_its_probability() -> None:
    outcomes = every_outcome(lambda choices: choices.weighted("abc", (1, 2, 5)))
    assert {text: round(math.exp(logprob), 6) for text, logprob in outcomes} == {"a": 0.125, "b": 0.25, "c": 0.625}


def test_documents_belong_to_their_split_and_do_not_depend_on_the_size(spec: WorldSpec) -> None:
    shorter = list(documents(WorldSpec.of("ci", text_bytes=3000), "train"))
    longer = list(documents(WorldSpec.of("ci", text_bytes=6000), "train"))
    assert longer[: len(shorter)] == shorter
    assert len(longer) > len(shorter)
    for split in ("train", "val"):
        assert all(TextWorld(spec).split_of(row["kind"], row["text"]) == split for row in documents(spec, split))
    assert list(documents(WorldSpec.of("ci", seed=1, text_bytes=3000), "train")) != shorter


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_words_and_sentences_are_said_again_and_none_of_the_tests_of_speech(level: str) -> None:
    spec = WorldSpec.of("ci", text_bytes=150_000, level=level)
    said = [row["text"] for row in documents(spec, "train") if row["kind"] == "say"]
    asked = [re.fullmatch(r"question: (.*) answer: (.*)", text).groups() for text in said]
    assert all(request.endswith(again) for request, again in asked)
    asked = [(again, again) for _, again in asked]
    assert all(content_split(0, "speech", words) == "train" for words, _ in asked)
    sentences = [words for words, _ in asked if re.search(r"\b(the|is|of|a)\b", words)]
    assert 0.3 < len(sentences) / len(asked) < 0.7
    assert all(re.fullmatch(r"[a-z' ]+", words) for words in sentences)  # as one says it: no marks, no digits


def test_held_out_sums_occur_in_no_document(spec: WorldSpec) -> None:
    arithmetic = Arithmetic(seed=spec.seed, level="easy")
    held_out = {
        f"{a} {'+' if sign == 'plus' else '-'} {b}" for split in arithmetic.held_out.values() for sign, a, b in split
    }
    said = set()
    for row in documents(WorldSpec.of("ci", text_bytes=150_000), "train"):
        said |= set(re.findall(r"\d+ [+-] \d+", row["text"]))
    assert len(said) > 200
    assert not said & held_out
    share = len(held_out) / (len(held_out) + sum(len(pairs) for pairs in arithmetic.trained.values()))
    assert 0.15 < share < 0.25


def test_answers_of_sums_are_right() -> None:
    text = " ".join(row["text"] for row in documents(WorldSpec.of("ci", text_bytes=60_000, level="hard"), "train"))
    sums = re.findall(r"(\d+) ([+-]) (\d+)(?: =|[^.=\d]* answer:) (\d+)", text)
    assert len(sums) > 50
    assert all(int(a) + int(b) * (1 if sign == "+" else -1) == int(value) for a, sign, b, value in sums)


def test_unasked_people_are_never_asked_about(spec: WorldSpec) -> None:
    facts = Facts(seed=spec.seed, people=spec.people, level=spec.level, wording=WORDING)
    unasked = {facts.names[person] for person in facts.unasked}
    questions = [
        question for row in documents(WorldSpec.of("ci", text_bytes=100_000), "train") if row["kind"] == "fact"
        for question in re.findall(r"question: (.*?) answer:", row["text"])
    ]  # fmt: skip
    assert len(questions) > 50
    assert not {word for question in questions for word in re.findall(r"[a-z]+", question)} & unasked


def test_text_questions_of_each_kind_with_story_answers_that_follow(spec: WorldSpec) -> None:
    rows = list(text_questions(spec, "test"))
    assert {row["kind"] for row in rows} == {"fact", "fact_unasked", "arithmetic", "arithmetic_seen", "story"}
    for row in rows:
        assert row["prompt"].endswith(" answer:")
        if row["kind"] == "story":
            story, question = row["prompt"].split(" question: ")
            (thing,) = set(re.findall(r"\w+", question)) & set(THINGS)
            mentions = re.findall(rf"the {thing}[^.]*? (?:in|to) the (\w+)\.", story)
            assert mentions[-1] == row["answer"]


def test_hard_level_has_second_names_and_sums_beyond_the_trained_range() -> None:
    hard = WorldSpec.of("ci", level="hard")
    rows = list(text_questions(hard, "test"))
    far = [row for row in rows if row["kind"] == "arithmetic_far"]
    assert far
    assert all(" " in name for name in Facts(seed=0, people=32, level="hard", wording=WORDING).names)


def test_item_generators_differ_by_every_part() -> None:
    draws = {
        item_rng(*key).random() for key in ((0, "a", "b", 1), (1, "a", "b", 1), (0, "b", "b", 1), (0, "a", "b", 2))
    }
    assert len(draws) == 4
