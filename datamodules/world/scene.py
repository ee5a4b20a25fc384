"""Scenes: which objects stand where. Held-out pairs, twins, and the split of a scene.

Conventions: a colour is an index into COLOURS (None in a monochrome scene), a shape an index into SHAPES, a size 0
small or 1 big, a cell 0..8 in reading order (row = cell // 3, column = cell % 3).
"""

from dataclasses import dataclass, replace
from itertools import product

from datamodules.world.lexicon import COLOURS, SHAPES
from datamodules.world.rng import Choices, content_split

HELD_OUT_STEP = 3  # coprime to the eight colours, so that no colour loses two shapes
MOST_OBJECTS = 4
COUNT_TEST_OBJECTS = 5
Themes = tuple[float, float, float]  # weights of: free, all of one shape, all of one colour
MIXED: Themes = (0.5, 0.25, 0.25)
ALIKE: Themes = (0.1, 0.45, 0.45)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene (indices, see the module's head)."""

    colour: int | None
    shape: int
    size: int
    cell: int


Scene = tuple[Thing, ...]


class Pairs:
    """Which of the 48 colour-shape pairs training may show: colour == shape * step + rotation (mod 8) is held out."""

    def __init__(self, *, rotation: int, held_out: int):
        self.held_out = {((shape * HELD_OUT_STEP + rotation + shift) % len(COLOURS), shape)
                         for shape in range(len(SHAPES)) for shift in ((0, 4) if held_out == 12 else (0,))}  # fmt: skip
        trained = [pair for pair in product(range(len(COLOURS)), range(len(SHAPES))) if pair not in self.held_out]
        self.shapes_of = [[shape for other, shape in trained if other == colour] for colour in range(len(COLOURS))]
        self.colours_of = [[colour for colour, other in trained if other == shape] for shape in range(len(SHAPES))]
        # Given the shape, a colour is drawn by 1 / (its number of shapes), so that all colours stay equally likely.
        self.colour_weights = [[1 / len(self.shapes_of[colour]) for colour in colours] for colours in self.colours_of]

    def swap_keep(self, thing: Thing) -> float:
        """The chance to keep twins that exchange this thing's colour.

        A colour with fewer shapes survives an exchange less often: the others are kept by as much less.
        """
        fewest = min(len(shapes) for shapes in self.shapes_of)
        return 1.0 if thing.colour is None else (fewest - 1) / (len(self.shapes_of[thing.colour]) - 1)

    def allows(self, scene: Scene) -> bool:
        """Whether training may show this scene."""
        return all((thing.colour, thing.shape) not in self.held_out for thing in scene)


def draw_pair(choices: Choices, pairs: Pairs) -> tuple[int, int]:
    """A trained (colour, shape): the colour uniform, then one of its shapes (which leaves the shapes uniform too)."""
    return draw_pair_of(choices, pairs, "colour", choices.pick(range(len(COLOURS))))


def draw_pair_of(choices: Choices, pairs: Pairs, attribute: str, value: int) -> tuple[int, int]:
    """A trained (colour, shape) whose "colour" or "shape" is given."""
    if attribute == "colour":
        return value, choices.pick(pairs.shapes_of[value])
    return choices.weighted(pairs.colours_of[value], pairs.colour_weights[value]), value


def draw_scene(choices: Choices, pairs: Pairs, *, count: int, themes: Themes = MIXED) -> Scene:
    """`count` things in reading order: free ones, all of one shape, or all of one colour, by the weights `themes`."""
    cells = sorted(choices.rng.sample(range(9), count))
    theme = choices.weighted(("free", "shape", "colour"), themes)
    pair = draw_pair(choices, pairs)
    things: list[Thing] = []
    for cell in cells:
        if things and theme == "free":
            pair = draw_pair(choices, pairs)
        elif things:
            pair = draw_pair_of(choices, pairs, theme, pair[theme == "shape"])
        things.append(Thing(*pair, choices.pick((0, 1)), cell))
    return tuple(things)


def draw_single(choices: Choices, pairs: Pairs, *, crowded: bool = False) -> Scene:
    """A scene that has no twin, mostly of things alike, so that each number of circles occurs; crowded: of five things.

    With as many twins, of two to four things, every number up to four is equally frequent.
    """
    counts = tuple(range(1, MOST_OBJECTS + 1))
    count = COUNT_TEST_OBJECTS if crowded else choices.weighted(counts, (3, 1, 1, 1))
    return draw_scene(choices, pairs, count=count, themes=ALIKE)


def twin_count(choices: Choices) -> int:
    """How many things a pair of twins has."""
    return choices.pick(range(2, MOST_OBJECTS + 1))


def swap_places(scene: Scene, first: int, second: int) -> Scene:
    """The twin of a held-out test: two things exchange their cells, so that every pair stays; in reading order."""
    return tuple(sorted(swap(scene, first, second, "cell"), key=lambda thing: thing.cell))


def swap(scene: Scene, first: int, second: int, attribute: str) -> Scene:
    """The scene with one attribute of two things exchanged: of the colours, its twin in the same layout."""
    things = list(scene)
    for one, other in ((first, second), (second, first)):
        things[one] = replace(scene[one], **{attribute: getattr(scene[other], attribute)})
    return tuple(things)


def draw_twins(choices: Choices, pairs: Pairs) -> tuple[Scene, Scene]:
    """Two trained scenes that differ in the colours of two things of the same size, different colour and shape.

    All colours are equally likely to be exchanged.
    """
    count = twin_count(choices)
    while True:
        scene = list(draw_scene(choices, pairs, count=count))
        first, second = sorted(choices.rng.sample(range(count), 2))
        scene[second] = replace(scene[second], size=scene[first].size)
        if scene[first].colour == scene[second].colour or scene[first].shape == scene[second].shape:
            continue
        twin = swap(tuple(scene), first, second, "colour")
        if pairs.allows(twin) and choices.rng.random() < pairs.swap_keep(scene[first]) * pairs.swap_keep(scene[second]):
            return tuple(scene), twin


def draw_held_out(choices: Choices, pairs: Pairs, *, count: int, held_out: int) -> tuple[Scene, list[int]]:
    """A scene whose `held_out` things are of held-out pairs (different ones), and their positions in it.

    With two of them, they have one size, different colours and different shapes.
    """
    while True:
        scene = list(draw_scene(choices, pairs, count=count))
        chosen = choices.rng.sample(range(count), held_out)
        for position in chosen:
            colour, shape = choices.pick(sorted(pairs.held_out))
            scene[position] = replace(scene[position], colour=colour, shape=shape, size=scene[chosen[0]].size)
        colours = {scene[position].colour for position in chosen}
        shapes = {scene[position].shape for position in chosen}
        if len(colours) == held_out == len(shapes):
            return tuple(scene), chosen


def without_colours(scene: Scene) -> Scene:
    """The scene as a monochrome picture shows it."""
    return tuple(replace(thing, colour=None) for thing in scene)


def scene_split(seed: int, scene: Scene) -> str:
    """The split of a scene. The content hashed is the layout and which attributes occur, so twins share it."""
    layout = [(thing.cell, thing.size) for thing in sorted(scene, key=lambda thing: thing.cell)]
    colours = sorted(-1 if thing.colour is None else thing.colour for thing in scene)
    return content_split(seed, "scene", (layout, colours, sorted(thing.shape for thing in scene)))
