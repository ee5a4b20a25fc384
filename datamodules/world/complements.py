"""Complementary pairs of test questions: the same words about two pictures, with two different answers.

A pair counts only when both are right, so that a model that looks at the words alone scores nothing on it. For colour,
shape, where and relation the second picture is a twin of the first: two objects, one of them asked about, exchange
their colours or their cells. For count it is another picture. In test_comp every question is about an object of a
held-out pair: the twin exchanges the cells of two such objects; where no twin can change the answer (a colour asked by
shape), a question stands alone.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from datamodules.world.captions import objects_of, plural
from datamodules.world.lexicon import COLOURS, SHAPES
from datamodules.world.questions import Question, candidates, draw_question, keep_shares, word_class
from datamodules.world.rng import Choices, item_rng
from datamodules.world.scene import (
    COUNT_TEST_OBJECTS,
    MOST_OBJECTS,
    Pairs,
    Scene,
    draw_held_out,
    draw_pair,
    draw_pair_of,
    draw_scene,
    draw_twins,
    scene_split,
    swap_places,
    twin_count,
)
from datamodules.world.spec import WorldSpec

PLACE_SHARE = 0.5  # of the questions about colour and shape; as in training


class Asked(NamedTuple):
    """A question about a scene."""

    scene: Scene
    question: Question


class Complements:
    """Test questions of one world."""

    def __init__(self, spec: WorldSpec):
        self.seed = spec.seed
        self.pairs = Pairs(rotation=spec.rotation, held_out=spec.held_out)
        self.shares = keep_shares(spec.rotation, spec.held_out)

    def pair(self, split: str, question_type: str, index: int) -> tuple[tuple[Asked, Asked], bool]:
        """Pair `index` of questions of a type for a test split, and whether they are complementary."""
        choices = Choices(item_rng(self.seed, split, f"complement {question_type}", index))
        held_out = split == "test_comp"
        if split == "test_count":
            return (self._crowded(choices, question_type), self._crowded(choices, question_type)), False
        if question_type == "count":
            return self._counts(choices, held_out=held_out), True
        if held_out and question_type in ("colour", "shape") and choices.rng.random() >= PLACE_SHARE:
            return (self._named(choices, question_type), self._named(choices, question_type)), False
        return self._twins(choices, question_type, held_out=held_out), True

    def _is_test(self, scene: Scene) -> bool:
        return scene_split(self.seed, scene) == "test"

    def _crowded(self, choices: Choices, question_type: str) -> Asked:
        """A question about five objects."""
        while True:
            scene = draw_scene(choices, self.pairs, count=COUNT_TEST_OBJECTS)
            if not self._is_test(scene) or not candidates(scene, question_type):
                continue
            if question_type == "count":  # of all objects: training asks it in writing of four at most
                return Asked(scene, next(q for q in candidates(scene, "count") if q.reference == "all"))
            return Asked(scene, draw_question(choices, scene, question_type, self.shares))

    def _twins(self, choices: Choices, question_type: str, *, held_out: bool) -> tuple[Asked, Asked]:
        """The same question about twins by exchanged colours, or about two held-out things that exchange their cells."""
        by_place = question_type in ("colour", "shape") and (held_out or choices.rng.random() < PLACE_SHARE)
        # an exchange of colours alone would not change these
        by_cells = held_out or question_type in ("where", "relation") or (question_type == "shape" and by_place)
        while True:
            if held_out:
                first, changed = draw_held_out(choices, self.pairs, count=twin_count(choices), held_out=2)
            else:
                first, second = draw_twins(choices, self.pairs)
                changed = [n for n, thing in enumerate(first) if thing != second[n]]
            if not self._is_test(first):
                continue
            if by_cells:
                second = swap_places(first, *changed)
            about = changed if held_out else range(len(first))
            asked = self._both(choices, first, second, question_type, by_place=by_place, about=about)
            if asked is not None and self._kept(choices, asked):
                return asked

    def _both(
        self,
        choices: Choices,
        first: Scene,
        second: Scene,
        question_type: str,
        *,
        by_place: bool,
        about: Collection[int],
    ) -> tuple[Asked, Asked] | None:
        """One of the questions about some of the things `about` that both scenes answer, differently."""
        others = {(q.words, q.relation, q.other): q for q in candidates(second, question_type)}
        found = []
        for question in candidates(first, question_type):
            other = others.get((question.words, question.relation, question.other))
            if other is None or other.answer == question.answer or (question.reference == "place") != by_place:
                continue
            if set(about).issuperset(question.asked):
                found.append((Asked(first, question), Asked(second, other)))
        references = sorted({asked.question.reference for asked, _ in found})
        if not references:
            return None
        reference = choices.pick(references)
        return choices.pick([both for both in found if both[0].question.reference == reference])

    def _kept(self, choices: Choices, asked: tuple[Asked, Asked]) -> bool:
        """Whether to keep a pair, by the balance of its answers."""
        keep = 1.0
        for _, question in asked:
            if question.type == "colour" and question.reference == "attribute":
                keep = min(keep, self.shares[word_class(question), question.answer])
        return choices.rng.random() < keep

    def _named(self, choices: Choices, question_type: str) -> Asked:
        """A question about a held-out thing that is named by an attribute."""
        while True:
            count = choices.pick(range(1, MOST_OBJECTS + 1))
            scene, positions = draw_held_out(choices, self.pairs, count=count, held_out=1)
            named = [
                question for question in candidates(scene, question_type)
                if question.reference != "place" and question.asked == tuple(positions)
            ]  # fmt: skip
            if named and self._is_test(scene):
                return Asked(scene, choices.pick(named))

    def _counts(self, choices: Choices, *, held_out: bool) -> tuple[Asked, Asked]:
        """The same count asked of two scenes: of all objects, of a shape or of a colour; uniform."""
        subject = choices.weighted(("all", "shape", "colour"), (0.7, 0.15, 0.15))
        value = choices.pick(range(len(SHAPES) if subject == "shape" else len(COLOURS)))
        numbers = choices.rng.sample(range(1, MOST_OBJECTS + 1), 2)
        if held_out and subject == "colour":  # a colour that a held-out pair has
            value = choices.pick(sorted({colour for colour, _ in self.pairs.held_out}))
        words = "objects" if subject == "all" else plural(value) if subject == "shape" else objects_of(value)
        asked = []
        for number in numbers:
            scene = self._counted(choices, subject, value, number, held_out)
            while not self._is_test(scene):
                scene = self._counted(choices, subject, value, number, held_out)
            asked.append(Asked(scene, next(q for q in candidates(scene, "count") if q.words == words)))
        return asked[0], asked[1]

    def _counted(self, choices: Choices, subject: str, value: int, number: int, held_out: bool) -> Scene:
        """A scene with exactly `number` things of a shape or colour; with `held_out` one of them is held out."""
        total = number if subject == "all" else choices.pick(range(number, MOST_OBJECTS + 1))
        things = list(draw_scene(choices, self.pairs, count=total))
        counted = choices.rng.sample(range(total), number)
        which = subject == "shape"  # of a pair (colour, shape)
        for position in range(total if subject != "all" else 0):
            if position in counted:
                pair = draw_pair_of(choices, self.pairs, subject, value)
            else:
                pair = draw_pair(choices, self.pairs)
                while pair[which] == value:
                    pair = draw_pair(choices, self.pairs)
            things[position] = replace(things[position], colour=pair[0], shape=pair[1])
        if held_out:
            pairs = [pair for pair in sorted(self.pairs.held_out) if subject == "all" or pair[which] == value]
            colour, shape = choices.pick(pairs)
            things[counted[0]] = replace(things[counted[0]], colour=colour, shape=shape)
        return tuple(things)
