"""Stories that move things about and end in questions about where they are now.

easy: two things, one or two moves. hard: three things, three to five moves.
"""

from datamodules.world.forms import MOVES, PUTS
from datamodules.world.lexicon import ACTORS, CONTAINERS, THINGS
from datamodules.world.rng import Choices
from datamodules.world.wording import Use, Wording

SHAPES_OF_STORY = {"easy": (2, (1, 2)), "hard": (3, (3, 4, 5))}  # things, numbers of moves


def draw_line(choices: Choices, wording: Wording) -> str:
    """One line of some story: who puts or moves which thing where."""
    actor, thing, place = choices.pick(ACTORS), choices.pick(THINGS), choices.pick(CONTAINERS)
    return wording.state(choices, choices.pick((PUTS, MOVES)), actor=actor, thing=thing, place=place)


def draw_story(
    choices: Choices, wording: Wording, *, level: str, use: Use, questions: int = 1
) -> tuple[str, list[tuple[str, str]]]:
    """(story, [(question, answer), ...]), the questions about different things (at most two, as every story has two).

    The text shows every choice: things differ, a move goes to another place.
    """
    count, moves = SHAPES_OF_STORY[level]
    places: dict[str, str] = {}
    lines = []
    for _ in range(count):
        thing = choices.pick([thing for thing in THINGS if thing not in places])
        places[thing] = choices.pick(CONTAINERS)
        lines.append(wording.state(choices, PUTS, actor=choices.pick(ACTORS), thing=thing, place=places[thing]))
    for _ in range(choices.pick(moves)):
        thing = choices.pick(tuple(places))
        places[thing] = choices.pick([place for place in CONTAINERS if place != places[thing]])
        lines.append(wording.state(choices, MOVES, actor=choices.pick(ACTORS), thing=thing, place=places[thing]))
    asked: dict[str, str] = {}
    for _ in range(questions):
        thing = choices.pick([thing for thing in places if thing not in asked])
        asked[thing] = wording.ask(choices, "story", use, a=f"the {thing}")
    return " ".join(lines), [(question, places[thing]) for thing, question in asked.items()]
