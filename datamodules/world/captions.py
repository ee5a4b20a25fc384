"""Captions of scenes.

A description names every object with its place ("a big red circle at the top left and a small blue square at the
centre") and has one form, since it answers "describe the picture". A relation is that of the first two objects; a list
names the objects in a form of `forms.py`. Objects of a monochrome scene have no colour word.
"""

from collections.abc import Sequence

from datamodules.world.forms import DIGITS_SHOWN
from datamodules.world.lexicon import COLOURS, DIGITS, PLACES, PLURALS, RELATIONS, SHAPES, SIZES
from datamodules.world.rng import Choices
from datamodules.world.scene import Scene, Thing
from datamodules.world.wording import Use, Wording

#: Kinds of captions and their weights.
CAPTION_SHARES = {"description": 1, "relation": 1, "list": 4}


def noun(thing: Thing) -> str:
    """ "big red circle"; "big circle" in a monochrome scene."""
    colour = "" if thing.colour is None else COLOURS[thing.colour] + " "
    return f"{SIZES[thing.size]} {colour}{SHAPES[thing.shape]}"


def join(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def describe(scene: Sequence[Thing]) -> str:
    """The description: every object with its place, in the given order."""
    return join([f"a {noun(thing)} at the {PLACES[thing.cell]}" for thing in scene])


def relations(first: Thing, second: Thing) -> list[str]:
    """The relations that hold between two things: by row and by column, where these differ."""
    found = []
    rows, columns = first.cell // 3 - second.cell // 3, first.cell % 3 - second.cell % 3
    if rows:
        found.append("above" if rows < 0 else "below")
    if columns:
        found.append("left of" if columns < 0 else "right of")
    return found


def relate(scene: Sequence[Thing], relation: str) -> str:
    """The list of objects, the first two joined by a relation: "a .. above a .., a .. and a .."."""
    parts = [f"a {noun(thing)}" for thing in scene]
    return join([f"{parts[0]} {relation} {parts[1]}", *parts[2:]])


def enumerate_things(choices: Choices, wording: Wording, scene: Sequence[Thing], use: Use) -> str:
    """The list of objects in some form."""
    return wording.form(choices, "list", use).format(things=join([f"a {noun(thing)}" for thing in scene]))


def draw_kind(choices: Choices, count: int) -> str:
    """A kind of caption for so many objects: a single one has no relation."""
    kinds = [kind for kind in CAPTION_SHARES if count > 1 or kind != "relation"]
    return choices.weighted(kinds, [CAPTION_SHARES[kind] for kind in kinds])


def caption(choices: Choices, wording: Wording, scene: Scene, *, kind: str, shuffled: float) -> str:
    """A caption of a kind; objects in reading order, or with chance `shuffled` in any order."""
    order = list(scene)
    if choices.rng.random() < shuffled:
        choices.rng.shuffle(order)
    if kind == "description":
        return describe(order)
    if kind == "relation":
        return relate(order, choices.pick(relations(order[0], order[1])))
    return enumerate_things(choices, wording, order, "spoken")


def caption_digit(choices: Choices, wording: Wording, digit: int, colour: int) -> str:
    """A caption of a picture of one written digit."""
    return wording.state(choices, DIGITS_SHOWN, digit=DIGITS[digit], colour=COLOURS[colour])


def object_records(scene: Scene) -> list[dict[str, object]]:
    """The exact truth for a manifest: {"colour" (null in grey), "shape", "size", "cell" 0..8, "place"}."""
    return [
        {"colour": None if thing.colour is None else COLOURS[thing.colour], "shape": SHAPES[thing.shape],
         "size": SIZES[thing.size], "cell": thing.cell, "place": PLACES[thing.cell]}
        for thing in scene
    ]  # fmt: skip


def plural(shape: int) -> str:
    """ "crosses" """
    return PLURALS[SHAPES[shape]]


def objects_of(colour: int) -> str:
    """ "red objects" """
    return f"{COLOURS[colour]} objects"


def opposite(relation: str) -> str:
    """ "above" <-> "below", "left of" <-> "right of"."""
    return RELATIONS[RELATIONS.index(relation) ^ 1]
