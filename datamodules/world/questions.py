"""Questions about a picture, each with exactly one answer, and the balance of their answers.

`candidates` lists every question of a type that the scene answers. `draw_question` draws one; a question whose answer
is more common than others for the same words is kept with a lower probability (`keep_shares`), else a question by place
is asked instead, whose answers are uniform by symmetry: given the type and the words, all answers are equally likely.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, product

from datamodules.world.captions import objects_of, opposite, plural, relations
from datamodules.world.lexicon import COLOURS, PLACES, RELATIONS, SHAPES, SIZES
from datamodules.world.rng import Choices, item_rng
from datamodules.world.scene import MOST_OBJECTS, Pairs, Scene, draw_pair, draw_single, draw_twins
from datamodules.world.wording import Wording, canonical_form

TYPES = ("colour", "shape", "count", "where", "relation")
#: Type of a question about one object -> (attribute of the thing, its words).
ANSWERS = {"colour": ("colour", COLOURS), "shape": ("shape", SHAPES), "where": ("cell", PLACES)}
NAMED_SHARES = {"count": 0.8}  # probability to try a named reference (else 0.5); many counts are then not kept
RARITY = (0, 1, 4, 16, 64, 256)  # weight of a named count, by its answer


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a type with its answer.

    reference   how the object is named: place | size | attribute | pair | all
    words       what it is named by, without the phrase around it; of a relation also `relation` and `other`
    asked       indices of the things in the scene
    """

    type: str
    words: str
    answer: str
    reference: str
    asked: tuple[int, ...]
    relation: str = ""
    other: str = ""

    @property
    def slots(self) -> dict[str, str]:
        """What a form of the question (`wording.py`) is filled with."""
        return {"a": self.words, "relation": self.relation, "b": self.other}

    def text(self, form: str | None = None) -> str:
        """The question in a form, without one in the canonical one."""
        return (form or canonical_form(self.type)).format(**self.slots)


def _names(scene: Scene, *, colour: bool, shape: bool) -> Iterator[tuple[int, str, str]]:
    """(index, name, reference) of things whose name by the wanted attributes fits no other; without and with the size
    ("the big red object")."""
    coloured = colour and scene[0].colour is not None
    reference = "pair" if coloured and shape else "attribute" if coloured or shape else "size"
    for sized in {"pair": (False,), "attribute": (False, True), "size": (True,)}[reference]:
        names = []
        for thing in scene:
            words = ["the", SIZES[thing.size]] if sized else ["the"]
            words += [COLOURS[thing.colour]] if colour and thing.colour is not None else []
            names.append(" ".join([*words, SHAPES[thing.shape] if shape else "object"]))
        counts = Counter(names)
        yield from ((index, name, reference) for index, name in enumerate(names) if counts[name] == 1)


def _attribute(scene: Scene, question_type: str) -> Iterator[Question]:
    """Questions for the colour, shape or cell of one object; by what it is named."""
    coloured = scene[0].colour is not None
    by_cell = [(index, f"the object at the {PLACES[thing.cell]}", "place") for index, thing in enumerate(scene)]
    by_shape, by_size = _names(scene, colour=False, shape=True), _names(scene, colour=False, shape=False)
    sources: dict[str, list[Iterable[tuple[int, str, str]]]] = {
        "colour": [by_cell, by_shape, by_size] if coloured else [],
        "shape": [by_cell, by_size, *([_names(scene, colour=True, shape=False)] if coloured else [])],
        "where": [by_shape, *(_names(scene, colour=True, shape=shape) for shape in (True, False) if coloured)],
    }
    attribute, answers = ANSWERS[question_type]
    for index, words, reference in chain(*sources[question_type]):
        yield Question(question_type, words, answers[getattr(scene[index], attribute)], reference, (index,))


def _count(scene: Scene) -> Iterator[Question]:
    yield Question("count", "objects", str(len(scene)), "all", tuple(range(len(scene))))
    for attribute, name in (("shape", plural), ("colour", objects_of)):
        values = [getattr(thing, attribute) for thing in scene]
        for value in sorted({value for value in values if value is not None}):
            asked = tuple(index for index, other in enumerate(values) if other == value)
            yield Question("count", name(value), str(len(asked)), "attribute", asked)


def _relation(scene: Scene) -> Iterator[Question]:
    for (first, a, reference), (second, b, _) in product(list(_names(scene, colour=True, shape=True)), repeat=2):
        for relation in relations(scene[first], scene[second]) if first != second else ():
            yield Question("relation", a, "yes", reference, (first, second), relation, b)
            yield Question("relation", a, "no", reference, (first, second), opposite(relation), b)


def candidates(scene: Scene, question_type: str) -> list[Question]:
    """Every question of a type that the scene answers, in a fixed order, no two alike."""
    whole = {"count": _count, "relation": _relation}
    found = whole[question_type](scene) if question_type in whole else _attribute(scene, question_type)
    return list(dict.fromkeys(found))


def draw_any(choices: Choices, questions: Mapping[str, list[Question]]) -> Question:
    """A question of any type that has some."""
    return choices.pick(choices.pick([questions[name] for name in TYPES if questions[name]]))


def question_alone(choices: Choices, wording: Wording, pairs: Pairs) -> str:
    """A question as one says it, of any type, about no picture at all; what it names are trained pairs."""

    def thing() -> str:
        named_by = choices.pick(("place", "size", "shape", "colour", "pair"))
        if named_by == "place":
            return f"the object at the {choices.pick(PLACES)}"
        size = choices.pick(SIZES) + " " if named_by == "size" else choices.pick(("", *(size + " " for size in SIZES)))
        if named_by == "pair":
            colour, shape = draw_pair(choices, pairs)
            return f"the {size}{COLOURS[colour]} {SHAPES[shape]}"
        colours = choices.pick(COLOURS) + " " if named_by == "colour" else ""
        return f"the {size}{colours}{choices.pick(SHAPES) if named_by == 'shape' else 'object'}"

    question_type = choices.pick(TYPES)
    form = wording.form(choices, question_type, "document")
    if question_type == "count":
        named = [plural(shape) for shape in range(len(SHAPES))] + [objects_of(colour) for colour in range(len(COLOURS))]
        return form.format(a=choices.pick(["objects", *named]))
    relation = choices.pick(RELATIONS) if question_type == "relation" else ""
    return form.format(a=thing(), relation=relation, b=thing() if relation else "")


@lru_cache(maxsize=4)
def keep_shares(rotation: int, held_out: int) -> dict[tuple[str, str], float]:
    """Probability to keep a counted or attribute-referenced answer, by (class of words, answer).

    For "how many circles" from 4000 scenes as of training, drawn with a fixed seed; for colours by shape from the
    number of pairs.
    """
    pairs = Pairs(rotation=rotation, held_out=held_out)
    counts: Counter[tuple[str, str]] = Counter()
    for index in range(4000):
        choices = Choices(item_rng(0, "balance", "count", index))
        scene = draw_single(choices, pairs) if index % 2 else draw_twins(choices, pairs)[0]
        question = _pick_named(choices, [q for q in candidates(scene, "count") if q.reference == "attribute"])
        counts[word_class(question), question.answer] += 1
    shares = {}
    for words in {words for words, _ in counts}:
        least = min(counts[words, str(answer)] for answer in range(1, MOST_OBJECTS + 1))
        for answer in range(1, MOST_OBJECTS + 1):
            shares[words, str(answer)] = least / counts[words, str(answer)]
    most = max(len(shapes) for shapes in pairs.shapes_of)
    for colour, shapes in zip(COLOURS, pairs.shapes_of, strict=True):
        # given the shape, a colour comes with weight 1 / (number of its shapes)
        shares["colour", colour] = len(shapes) / most
    return shares


def word_class(question: Question) -> str:
    """The class of words whose answers `keep_shares` balances together."""
    if question.type == "colour":
        return "colour"
    return "count colours" if question.words.endswith("objects") else "count shapes"


def _pick_named(choices: Choices, named: list[Question]) -> Question:
    """One of the questions: of counts one with a large answer where there is one (they are rare), else a way of
    reference first, as their numbers differ much."""
    groups: dict[str, list[Question]] = {}
    for question in named:
        groups.setdefault(question.answer if question.type == "count" else question.reference, []).append(question)
    weights = [RARITY[int(name)] if name.isdigit() else 1.0 for name in groups]
    return choices.pick(groups[choices.weighted(tuple(groups), weights)])


def draw_question(choices: Choices, scene: Scene, question_type: str, shares: dict[tuple[str, str], float]) -> Question:
    """A question of type `question_type`, which the scene must answer, balanced (see the module's head)."""
    found = candidates(scene, question_type)
    by_place = [question for question in found if question.reference in ("place", "all")]
    named = [question for question in found if question.reference not in ("place", "all")]
    if named and (not by_place or choices.rng.random() < NAMED_SHARES.get(question_type, 0.5)):
        question = _pick_named(choices, named)
        keep = 1.0
        if question.reference == "attribute" and question_type in ("colour", "count"):
            keep = shares.get((word_class(question), question.answer), 1.0)
        if choices.rng.random() < keep:
            return question
    return choices.pick(by_place)
