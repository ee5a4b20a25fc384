"""Stories that move things about and end in questions about where they are now.

easy: two things, one or two moves. hard: three things, three to five moves.
"""

from datamodules.world.lexicon import ACTORS, CONTAINERS, THINGS
from datamodules.world.rng import Choices

SHAPES_OF_STORY = {"easy": (2, (1, 2)), "hard": (3, (3, 4, 5))}  # things, numbers of moves
PUTS = ("{actor} puts the {thing} in the {place}.", "the {thing} of {actor} is in the {place}.")
MOVES = ("{actor} moves the {thing} to the {place}.", "then {actor} takes the {thing} to the {place}.")
QUESTIONS = ("where is the {thing}?", "where is the {thing} now?")


def draw_line(choices: Choices) -> str:
    """One line of some story: who puts or moves which thing where."""
    line = choices.pick((*PUTS, *MOVES))
    return line.format(actor=choices.pick(ACTORS), thing=choices.pick(THINGS), place=choices.pick(CONTAINERS))


def draw_story(choices: Choices, *, level: str, questions: int = 1) -> tuple[str, list[tuple[str, str]]]:
    """(story, [(question, answer), ...]), the questions about different things (at most two, as every story has two).

    The text shows every choice: things differ, a move goes to another place.
    """
    count, moves = SHAPES_OF_STORY[level]
    places: dict[str, str] = {}
    lines = []
    for _ in range(count):
        thing = choices.pick([thing for thing in THINGS if thing not in places])
        places[thing] = choices.pick(CONTAINERS)
        lines.append(choices.pick(PUTS).format(actor=choices.pick(ACTORS), thing=thing, place=places[thing]))
    for _ in range(choices.pick(moves)):
        thing = choices.pick(tuple(places))
        places[thing] = choices.pick([place for place in CONTAINERS if place != places[thing]])
        lines.append(choices.pick(MOVES).format(actor=choices.pick(ACTORS), thing=thing, place=places[thing]))
    asked: dict[str, str] = {}
    for _ in range(questions):
        thing = choices.pick([thing for thing in places if thing not in asked])
        asked[thing] = choices.pick(QUESTIONS).format(thing=thing)
    return " ".join(lines), [(question, places[thing]) for thing, question in asked.items()]
