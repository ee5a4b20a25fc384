"""Questions about a picture, each with exactly one answer, and the balance of their answers.

`candidates` lists every question of a type that the scene answers. `draw_question` draws one; a question whose answer
is commoner than others for the same words is kept with a lower chance (`keep_share`), else a question by place is asked
instead, whose answers are uniform by symmetry. So that given the type and the words no answer is the likelier one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, product

from datamodules.world.captions import opposite, plural, relations
from datamodules.world.lexicon import COLOURS, PLACES, RELATIONS, SHAPES, SIZES
from datamodules.world.rng import Choices, item_rng
from datamodules.world.scene import MOST_OBJECTS, Pairs, Scene, Thing, draw_pair, draw_single, draw_twins, twin_count

TYPES = ("colour", "shape", "count", "where", "relation")
PHRASES = {
    "colour": ("what colour is {a}?", "which colour does {a} have?"),
    "shape": ("what shape is {a}?", "which shape does {a} have?"),
    "count": ("how many {a} are there?", "how many {a} can you see?"),
    "where": ("where is {a}?", "in which place is {a}?"),
    "relation": ("is {a} {relation} {b}?", "is it true that {a} is {relation} {b}?"),
}
HELD_OUT_PHRASES = {
    "colour": "name the colour of {a}",
    "shape": "name the shape of {a}",
    "count": "count the {a}",
    "where": "tell me the place of {a}",
    "relation": "do you see {a} {relation} {b}?",
}
NAMED_SHARES = {"count": 0.8}  # chance to try a named reference; many counts are then not kept. Else one half
RARITY = (0, 1, 4, 16, 64, 256)  # weight of a named count, by its answer
DIGIT_PHRASES = ("which digit is this?", "what number do you see?")


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a type with its answer.

    reference   how the object is named: place | size | attribute | pair | all
    words       what it is named by, without the phrase around it; of a relation also `relation` and `other`
    asked       positions of the things in the scene
    """

    type: str
    words: str
    answer: str
    reference: str
    asked: tuple[int, ...]
    relation: str = ""
    other: str = ""

    def text(self, phrase: str) -> str:
        """The question in a phrase of PHRASES or HELD_OUT_PHRASES."""
        return phrase.format(a=self.words, relation=self.relation, b=self.other)


def _unique(scene: Scene, names: list[str]) -> Iterator[tuple[int, str]]:
    """Positions and names of the things whose name fits no other."""
    counts = Counter(names)
    for position in range(len(scene)):
        if counts[names[position]] == 1:
            yield position, names[position]


def _by_place(scene: Scene) -> Iterator[tuple[int, str, str]]:
    for position, thing in enumerate(scene):
        yield position, f"the object at the {PLACES[thing.cell]}", "place"


def _names(scene: Scene, *, colour: bool, shape: bool) -> Iterator[tuple[int, str, str]]:
    """Unique names by the wanted attributes, without and with the size ("the big red object")."""

    def name(thing: Thing, size: bool) -> str:
        words = [SIZES[thing.size]] if size else []
        words += [COLOURS[thing.colour]] if colour and thing.colour is not None else []
        words.append(SHAPES[thing.shape] if shape else "object")
        return "the " + " ".join(words)

    has_colour = colour and scene[0].colour is not None
    reference = "pair" if has_colour and shape else "attribute" if has_colour or shape else "size"
    if reference != "size":
        yield from ((p, words, reference) for p, words in _unique(scene, [name(thing, False) for thing in scene]))
    if reference != "pair":
        yield from ((p, words, reference) for p, words in _unique(scene, [name(thing, True) for thing in scene]))


def _attribute(scene: Scene, kind: str) -> Iterator[Question]:
    """Questions for the colour, shape or place of one object; by what it is named."""
    coloured = scene[0].colour is not None
    by_shape, by_size = _names(scene, colour=False, shape=True), _names(scene, colour=False, shape=False)
    sources = {
        "colour": [_by_place(scene), by_shape, by_size],
        "shape": [_by_place(scene), by_size, *([_names(scene, colour=True, shape=False)] if coloured else [])],
        "where": [by_shape, *(_names(scene, colour=True, shape=shape) for shape in (True, False) if coloured)],
    }[kind]
    for position, words, reference in chain(*sources):
        thing = scene[position]
        if kind == "colour":
            if thing.colour is not None:
                yield Question(kind, words, COLOURS[thing.colour], reference, (position,))
        else:
            answer = SHAPES[thing.shape] if kind == "shape" else PLACES[thing.cell]
            yield Question(kind, words, answer, reference, (position,))


def _count(scene: Scene) -> Iterator[Question]:
    everything = tuple(range(len(scene)))
    yield Question("count", "objects", str(len(scene)), "all", everything)
    for shape in sorted({thing.shape for thing in scene}):
        asked = tuple(position for position in everything if scene[position].shape == shape)
        yield Question("count", plural(shape), str(len(asked)), "attribute", asked)
    for colour in sorted({thing.colour for thing in scene if thing.colour is not None}):
        asked = tuple(position for position in everything if scene[position].colour == colour)
        yield Question("count", f"{COLOURS[colour]} objects", str(len(asked)), "attribute", asked)


def _relation(scene: Scene) -> Iterator[Question]:
    for (first, a, reference), (second, b, _) in product(list(_names(scene, colour=True, shape=True)), repeat=2):
        for relation in relations(scene[first], scene[second]) if first != second else ():
            yield Question("relation", a, "yes", reference, (first, second), relation, b)
            yield Question("relation", a, "no", reference, (first, second), opposite(relation), b)


def candidates(scene: Scene, kind: str) -> list[Question]:
    """Every question of a type that the scene answers, in a fixed order, no two alike."""
    whole = {"count": _count, "relation": _relation}
    return list(dict.fromkeys(whole[kind](scene) if kind in whole else _attribute(scene, kind)))


def draw_any(choices: Choices, questions: Mapping[str, list[Question]]) -> tuple[Question, str]:
    """A question of any type that has some, and its words in some phrase."""
    question: Question = choices.pick(questions[choices.pick([kind for kind in TYPES if questions[kind]])])
    return question, question.text(choices.pick(PHRASES[question.type]))


def question_alone(choices: Choices, pairs: Pairs) -> str:
    """The words of a question, of any type, about no picture at all; what it names are trained pairs."""

    def thing() -> str:
        form = choices.pick(("place", "size", "shape", "colour", "pair"))
        if form == "place":
            return f"the object at the {choices.pick(PLACES)}"
        size = choices.pick(SIZES) + " " if form == "size" else choices.pick(("", *(size + " " for size in SIZES)))
        if form == "pair":
            colour, shape = draw_pair(choices, pairs)
            return f"the {size}{COLOURS[colour]} {SHAPES[shape]}"
        colours = choices.pick(COLOURS) + " " if form == "colour" else ""
        return f"the {size}{colours}{choices.pick(SHAPES) if form == 'shape' else 'object'}"

    kind = choices.pick(TYPES)
    phrase = choices.pick(PHRASES[kind])
    if kind == "count":
        named = [plural(shape) for shape in range(len(SHAPES))] + [f"{colour} objects" for colour in COLOURS]
        return phrase.format(a=choices.pick(["objects", *named]))
    relation = choices.pick(RELATIONS) if kind == "relation" else ""
    return phrase.format(a=thing(), relation=relation, b=thing() if relation else "")


@lru_cache(maxsize=4)
def keep_shares(rotation: int, held_out: int) -> dict[tuple[str, str], float]:
    """The chance to keep a counted or attribute-referenced answer, by (class of words, answer).

    For "how many circles" from 4000 scenes as of training, drawn with a fixed seed; for colours by shape from the
    number of pairs.
    """
    pairs = Pairs(rotation=rotation, held_out=held_out)
    counts: Counter[tuple[str, str]] = Counter()
    for index in range(4000):
        choices = Choices(item_rng(0, "balance", "count", index))
        twins = index % 2 == 0
        scene = draw_twins(choices, pairs, count=twin_count(choices))[0] if twins else draw_single(choices, pairs)
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
    """One of the questions: of counts one with a large answer where there is one (they are rare), else a kind of
    reference first, as their numbers differ much."""
    groups: dict[str, list[Question]] = {}
    for question in named:
        groups.setdefault(question.answer if question.type == "count" else question.reference, []).append(question)
    weights = [RARITY[int(name)] if name.isdigit() else 1.0 for name in groups]
    return choices.pick(groups[choices.weighted(tuple(groups), weights)])


def draw_question(choices: Choices, scene: Scene, kind: str, shares: dict[tuple[str, str], float]) -> Question:
    """A question of type `kind`, which the scene must answer, balanced (see the module's head)."""
    found = candidates(scene, kind)
    by_place = [question for question in found if question.reference in ("place", "all")]
    named = [question for question in found if question.reference not in ("place", "all")]
    if named and (not by_place or choices.rng.random() < NAMED_SHARES.get(kind, 0.5)):
        question = _pick_named(choices, named)
        keep = 1.0
        if question.reference == "attribute" and kind in ("colour", "count"):
            keep = shares.get((word_class(question), question.answer), 1.0)
        if choices.rng.random() < keep:
            return question
    return choices.pick(by_place)
