"""Complementary pairs of test questions: the same words about two pictures, with two different answers.

A pair counts only when both are right, so that a model that looks at the words alone scores nothing on it. For colour,
shape, where and relation the second picture is a twin of the first: two objects, one of them asked about, exchange
their colours or their places. For count it is another picture. In test_comp every question is about an object of a
held-out pair: the twin exchanges the places of two such objects; where no twin can change the answer (a colour asked by
shape), a question stands alone.
"""

from dataclasses import dataclass, replace

from datamodules.world.lexicon import COLOURS, SHAPES
from datamodules.world.questions import Question, candidates, draw_question, keep_shares, word_class
from datamodules.world.rng import Choices, item_rng
from datamodules.world.scene import (
    COUNT_TEST_OBJECTS,
    MOST_OBJECTS,
    Pairs,
    Scene,
    Thing,
    draw_held_out,
    draw_pair,
    draw_scene,
    draw_twins,
    scene_split,
    swap_places,
    twin_count,
)
from datamodules.world.spec import WorldSpec

PLACE_SHARE = 0.5  # of the questions about colour and shape; as in training


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a scene."""

    scene: Scene
    question: Question


class Complements:
    """Test questions of one world."""

    def __init__(self, spec: WorldSpec):
        self.seed = spec.seed
        self.pairs = Pairs(rotation=spec.rotation, held_out=spec.held_out)
        self.shares = keep_shares(spec.rotation, spec.held_out)

    def pair(self, split: str, kind: str, index: int) -> tuple[tuple[Asked, Asked], bool]:
        """Pair `index` of questions of a type for a test split, and whether they are complementary."""
        choices = Choices(item_rng(self.seed, split, f"complement {kind}", index))
        if split == "test_count":
            return (self._crowded(choices, kind), self._crowded(choices, kind)), False
        if kind == "count":
            return self._counts(choices, held_out=split == "test_comp"), True
        if split == "test_comp":
            by_place = kind in ("where", "relation") or choices.rng.random() < PLACE_SHARE
            if not by_place:
                return (self._named(choices, kind), self._named(choices, kind)), False
            return self._moved(choices, kind), True
        return self._twins(choices, kind), True

    def _held(self, scene: Scene) -> bool:
        return scene_split(self.seed, scene) == "test"

    def _crowded(self, choices: Choices, kind: str) -> Asked:
        """A question about five objects."""
        while True:
            scene = draw_scene(choices, self.pairs, count=COUNT_TEST_OBJECTS)
            if self._held(scene) and candidates(scene, kind):
                question = draw_question(choices, scene, kind, self.shares)
                if question.type == kind:
                    return Asked(scene, question)

    def _twins(self, choices: Choices, kind: str) -> tuple[Asked, Asked]:
        """The same question about twins by exchanged colours."""
        by_place = kind in ("colour", "shape") and choices.rng.random() < PLACE_SHARE
        while True:
            first, second = draw_twins(choices, self.pairs, count=twin_count(choices))
            if not self._held(first):
                continue
            if kind in ("where", "relation") or (kind == "shape" and by_place):  # colours alone would not change these
                changed = [n for n, thing in enumerate(first) if thing.colour != second[n].colour]
                second = swap_places(first, *changed)
            asked = self._both(choices, first, second, kind, by_place)
            if asked is not None and self._kept(choices, asked):
                return asked

    def _moved(self, choices: Choices, kind: str) -> tuple[Asked, Asked]:
        """The same question about two held-out things before and after they exchange their places."""
        while True:
            count = twin_count(choices)
            first, positions = draw_held_out(choices, self.pairs, count=count, held_out=2)
            if not self._held(first):
                continue
            second = swap_places(first, *positions)
            by_place = kind in ("colour", "shape")
            asked = self._both(choices, first, second, kind, by_place, positions=set(positions))
            if asked is not None:
                return asked

    def _both(
        self,
        choices: Choices,
        first: Scene,
        second: Scene,
        kind: str,
        by_place: bool,
        positions: set[int] | None = None,
    ) -> tuple[Asked, Asked] | None:
        """One of the questions that both scenes answer, differently; `positions`: of all the things asked about."""
        others = {(q.words, q.relation, q.other): q for q in candidates(second, kind)}
        found = []
        for question in candidates(first, kind):
            other = others.get((question.words, question.relation, question.other))
            if other is None or other.answer == question.answer or (question.reference == "place") != by_place:
                continue
            if positions is None or positions.issuperset(question.asked):
                found.append((Asked(first, question), Asked(second, other)))
        references = sorted({asked.question.reference for asked, _ in found})
        if not references:
            return None
        reference = choices.pick(references)
        return choices.pick([both for both in found if both[0].question.reference == reference])

    def _kept(self, choices: Choices, asked: tuple[Asked, Asked]) -> bool:
        """Whether to keep a pair, by the balance of its answers."""
        keep = 1.0
        for item in asked:
            if item.question.type == "colour" and item.question.reference == "attribute":
                keep = min(keep, self.shares[word_class(item.question), item.question.answer])
        return choices.rng.random() < keep

    def _named(self, choices: Choices, kind: str) -> Asked:
        """A question about a held-out thing that is named by an attribute."""
        while True:
            count = choices.pick(range(1, MOST_OBJECTS + 1))
            scene, positions = draw_held_out(choices, self.pairs, count=count, held_out=1)
            named = [
                question for question in candidates(scene, kind)
                if question.reference != "place" and question.asked == tuple(positions)
            ]  # fmt: skip
            if named and self._held(scene):
                return Asked(scene, choices.pick(named))

    def _counts(self, choices: Choices, *, held_out: bool) -> tuple[Asked, Asked]:
        """The same count asked of two scenes: of all objects, of a shape or of a colour; uniform."""
        subject = choices.weighted(("all", "shape", "colour"), (0.7, 0.15, 0.15))
        value = choices.pick(range(len(SHAPES) if subject == "shape" else len(COLOURS)))
        first, second = choices.rng.sample(range(1, MOST_OBJECTS + 1), 2)
        if held_out and subject == "colour":  # a colour that a held-out pair has
            value = choices.pick(sorted({colour for colour, _ in self.pairs.held_out}))
        asked = []
        for number in (first, second):
            while True:
                scene = self._counted(choices, subject, value, number, held_out)
                if self._held(scene):
                    break
            question = next(q for q in candidates(scene, "count") if self._is_about(q, scene, subject, value))
            asked.append(Asked(scene, question))
        return asked[0], asked[1]

    @staticmethod
    def _is_about(question: Question, scene: Scene, subject: str, value: int) -> bool:
        if subject == "all" or question.reference == "all":
            return subject == question.reference
        by_colour = question.words.endswith("objects")
        thing = scene[question.asked[0]]
        return by_colour == (subject == "colour") and (thing.colour if by_colour else thing.shape) == value

    def _counted(self, choices: Choices, subject: str, value: int, number: int, held_out: bool) -> Scene:
        """A scene with exactly `number` things of a shape or colour; with `held_out` one of them is held out."""
        total = number if subject == "all" else choices.pick(range(number, MOST_OBJECTS + 1))
        things = list(draw_scene(choices, self.pairs, count=total))
        counted = choices.rng.sample(range(total), number)
        for position, thing in enumerate(things):
            if subject == "all":
                continue
            if position in counted:
                colour, shape = self._of(choices, subject, value)
            else:
                colour, shape = draw_pair(choices, self.pairs)
                while (shape if subject == "shape" else colour) == value:
                    colour, shape = draw_pair(choices, self.pairs)
            things[position] = replace(thing, colour=colour, shape=shape)
        if held_out:
            pairs = [pair for pair in sorted(self.pairs.held_out)
                     if subject == "all" or pair[subject == "shape"] == value]  # fmt: skip
            colour, shape = choices.pick(pairs)
            old: Thing = things[counted[0]]
            things[counted[0]] = replace(old, colour=colour, shape=shape)
        return tuple(things)

    def _of(self, choices: Choices, subject: str, value: int) -> tuple[int, int]:
        """A trained pair of the given shape or colour."""
        if subject == "shape":
            return choices.weighted(self.pairs.colours_of[value], self.pairs.colour_weights[value]), value
        return value, choices.pick(self.pairs.shapes_of[value])
