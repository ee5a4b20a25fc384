"""Wordings: enough forms, none arises twice, what is held out stays out, typing can be undone."""

import math
import random
import re
from collections import Counter

import pytest

from datamodules.world.files import read_rows
from datamodules.world.forms import DIGITS_SHOWN, MOVES, PUTS, QUESTIONS, STATEMENTS, SYNONYMS
from datamodules.world.lexicon import NAMES
from datamodules.world.questions import TYPES
from datamodules.world.rng import Choices, item_rng
from datamodules.world.wording import (
    ROTATIONS,
    Form,
    Wording,
    as_typed,
    canonical_form,
    expand,
    held_out_synonyms,
    known_words,
    misspelt,
    patterns_of,
    pool,
    statement_pool,
)
from tests.unit.datamodules.world.test_text import every_outcome

MARKS = re.compile("[?.,:]")
SLOTS = {"a": "the big circle", "b": "the star", "relation": "left of", "things": "a big circle"}


def forms(name: str, use: str, rotation: int) -> list[str]:
    return [form for forms in pool(name, use, rotation=rotation, canonical=0.5).templates for form in forms]


def every_form(name: str) -> list[Form]:
    return [form for pattern, _, _ in patterns_of(QUESTIONS[name]) for form in expand(pattern)]


def test_alternatives_and_synonyms_expand_to_every_template_the_first_of_each_first():
    found = [form.template for form in expand("(what|which) <picture>(| now)?")]
    assert found[0] == "what picture?"
    assert len(set(found)) == len(found) == 2 * len(SYNONYMS["picture"]) * 2
    assert next(expand("the <picture>")).synonyms == frozenset()


@pytest.mark.parametrize("rotation", range(ROTATIONS))
@pytest.mark.parametrize("name", QUESTIONS)
def test_each_type_has_forty_forms_and_what_is_held_out_is_in_no_instruction(name: str, rotation: int):
    trained, documents, held_out = (forms(name, use, rotation) for use in ("instruction", "document", "held_out"))
    assert len(set(trained)) == len(trained) >= 40
    assert canonical_form(name) in trained
    assert len(set(held_out)) >= 5
    assert not set(held_out) & set(trained)
    assert set(trained) <= set(documents)


@pytest.mark.parametrize("name", ["colour", "shape", "count", "where", "relation", "job", "food", "caption"])
def test_each_rotation_holds_out_forms_and_where_a_type_has_them_synonyms(name: str):
    held = [set(forms(name, "held_out", rotation)) for rotation in range(ROTATIONS)]
    assert len({frozenset(each) for each in held}) == ROTATIONS
    for rotation, each in enumerate(held):
        documents = set(forms(name, "document", rotation))
        assert each & documents, "a held-out synonym occurs in documents"
        assert each - documents, "a held-out form does not"


@pytest.mark.parametrize("rotation", range(ROTATIONS))
def test_a_held_out_synonym_is_no_other_word_of_a_form(rotation: int):
    """So that `verify` may look for the word."""
    words = held_out_synonyms(rotation)
    assert len(words) == len(SYNONYMS)
    statements = [
        form
        for each in (*STATEMENTS.values(), PUTS, MOVES, DIGITS_SHOWN)
        for pattern in each
        for form in expand(pattern)
    ]
    for form in (*(form for name in QUESTIONS for form in every_form(name)), *statements):
        assert set(re.findall("[a-z]+", form.template)) & words == form.synonyms & words


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_text_arises_from_two_forms_with_its_marks_or_without(name: str):
    """Without marks it is said, and typed without its question mark."""
    every = every_form(name)
    assert len({MARKS.sub("", form.template) for form in every}) == len(every)


@pytest.mark.parametrize("patterns", [*STATEMENTS.values(), PUTS, MOVES, DIGITS_SHOWN])
def test_no_statement_arises_from_two_forms(patterns: tuple[str, ...]):
    every = [form for each in statement_pool(patterns, 0.5).templates for form in each]
    assert len(set(every)) == len(every) > len(patterns) - 1


@pytest.mark.parametrize("use", ["document", "instruction", "spoken", "held_out"])
@pytest.mark.parametrize("name", ["relation", "say", "where"])
def test_log_probabilities_of_forms_sum_to_one(name: str, use: str):
    wording = Wording(rotation=2, canonical=0.5)
    outcomes = every_outcome(lambda choices: wording.form(choices, name, use))
    assert len({text for text, _ in outcomes}) == len(outcomes)
    assert sum(math.exp(logprob) for _, logprob in outcomes) == pytest.approx(1)
    if use != "held_out":
        share = 0.5 if use == "instruction" else 0.75
        assert math.exp(dict(outcomes)[canonical_form(name)]) == pytest.approx(share)


@pytest.mark.parametrize("share", [0, 1])
def test_the_canonical_form_can_be_all_or_nothing(share: int):
    texts = {
        Wording(rotation=0, canonical=share).form(Choices(random.Random(n)), "shape", "instruction") for n in range(99)
    }
    assert (texts == {canonical_form("shape")}) if share else len(texts) > 40


def test_typing_can_be_told_from_the_text_and_its_probabilities_sum_to_one():
    wording = Wording(rotation=0, canonical=0.5)

    def typed(choices: Choices) -> str:
        form = choices.pick(forms("count", "document", 0)[:9] + forms("relation", "document", 0)[-9:])
        return as_typed(choices, form.format(**SLOTS), capitals=False)

    outcomes = every_outcome(typed)
    assert len({text for text, _ in outcomes}) == len(outcomes) > 100
    assert sum(math.exp(logprob) for _, logprob in outcomes) == pytest.approx(1)
    assert wording.ask(Choices(random.Random(0)), "count", "document", a="stars").islower()


def test_a_misspelt_word_is_no_other_word_and_can_be_put_right():
    """A word whose misspelling is one ("no" and "on") is too short to be misspelt."""
    words = {word for word in known_words() if len(word) > 3 and misspelt(word) != word}
    assert misspelt("circle") == "circel" and misspelt(misspelt("circle")) == "circle"
    assert not {misspelt(word) for word in words} & (known_words() | set(NAMES))


def test_typing_has_its_shares():
    texts = [as_typed(Choices(random.Random(n)), "where is the big circle?", capitals=True) for n in range(4000)]
    share = {
        "typo": sum(bool(re.search("wheer|circel", text.lower())) for text in texts) / 4000,
        "no mark": sum(not text.endswith("?") for text in texts) / 4000,
        "all capitals": sum(text.isupper() for text in texts) / 4000,
        "a capital": sum(text[0].isupper() for text in texts) / 4000,
    }
    assert share == pytest.approx({"typo": 0.02, "no mark": 0.15, "all capitals": 0.05, "a capital": 0.4}, abs=0.02)


def test_a_recording_has_no_word_that_sounds_as_another():
    assert not any("color" in form for form in forms("colour", "spoken", 0))
    assert any("color" in form for form in forms("colour", "instruction", 0))


def test_names_are_never_misspelt():
    for index in range(2000):
        text = as_typed(Choices(item_rng(0, "test", "typing", index)), "where does vifan live?", capitals=False)
        assert "vifan" in text


def test_instructions_are_put_in_many_words_and_tests_of_wording_in_others(root, spec):
    wording = Wording(rotation=spec.wording, canonical=spec.canonical)
    rows = {split: list(read_rows(root / "instructions" / f"{split}.jsonl")) for split in ("train", "test_para")}
    asked = [row for row in rows["train"] if row["task"] == "image_qa" and row["meta"]["question"] in TYPES]
    share = Counter(text_of(row).lower().rstrip("?") == row["meta"]["canonical"].rstrip("?") for row in asked)
    assert 0.3 < share[True] / len(asked) < 0.7
    known = {name: {MARKS.sub("", form) for form in forms(name, "instruction", wording.rotation)} for name in TYPES}
    for row in (row for row in rows["test_para"] if row["task"] == "image_qa"):
        text = MARKS.sub("", text_of(row).lower())
        canonical_words = set(row["meta"]["canonical"].rstrip("?").split())
        assert text != MARKS.sub("", row["meta"]["canonical"])
        assert canonical_words & set(text.split())
        assert text not in known[row["meta"]["question"]]


def text_of(row: dict) -> str:
    return row["messages"][0]["content"][1]["text"]
