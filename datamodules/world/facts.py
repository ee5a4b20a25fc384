"""Facts about invented people: four relations of sixteen values, the same in every split of one world.

Of a quarter of the people training never asks: their facts occur in statements alone (type fact_unasked).
"""

from datamodules.world.forms import STATEMENTS
from datamodules.world.lexicon import NAMES, RELATION_VALUES
from datamodules.world.rng import Choices, content_split, digest, item_rng
from datamodules.world.wording import Use, Wording

UNASKED_SHARE = 0.25


class Facts:
    """Who lives where, works as what, likes which food and keeps which pet in the world `seed`.

    `level` hard gives every person a second name, so that a name has several tokens.
    """

    def __init__(self, *, seed: int, people: int, level: str, wording: Wording):
        rng = item_rng(seed, "all", "facts", 0)
        self.seed, self.wording = seed, wording
        self.names = rng.sample(NAMES, people)
        if level == "hard":
            self.names = [
                f"{name} {surname}" for name, surname in zip(self.names, rng.sample(NAMES, people), strict=True)
            ]
        self.values: dict[str, list[str]] = {}
        for relation, values in RELATION_VALUES.items():
            self.values[relation] = [values[index % len(values)] for index in range(people)]
            rng.shuffle(self.values[relation])
        order = list(range(people))
        rng.shuffle(order)
        unasked = round(people * UNASKED_SHARE)
        self.unasked, self.asked = order[:unasked], order[unasked:]

    def statement(self, choices: Choices) -> str:
        """A statement about anybody."""
        person = choices.pick(range(len(self.names)))
        relation = choices.pick(tuple(STATEMENTS))
        name, value = self.names[person], self.values[relation][person]
        return self.wording.state(choices, STATEMENTS[relation], name=name, value=value)

    def question(self, choices: Choices, use: Use) -> tuple[str, str]:
        """A typed question about a person of whom training asks, and its answer."""
        person, relation = self._asked(choices)
        return self._question(choices, person, relation, use)

    def spoken_question(self, choices: Choices, use: Use) -> str:
        """Such a question as one says it."""
        person, relation = self._asked(choices)
        return self.wording.form(choices, relation, use).format(a=self.names[person])

    def _asked(self, choices: Choices) -> tuple[int, str]:
        return choices.pick(self.asked), choices.pick(tuple(STATEMENTS))

    def _question(self, choices: Choices, person: int, relation: str, use: Use) -> tuple[str, str]:
        return self.wording.ask(choices, relation, use, a=self.names[person]), self.values[relation][person]

    def test_questions(self, split: str, *, asked: bool, count: int) -> list[tuple[str, str]]:
        """Up to `count` different facts of val or test (by hash), in one wording each, of asked or never-asked people."""
        people = self.asked if asked else self.unasked
        every = [(person, relation) for person in people for relation in STATEMENTS]
        every = [key for key in every if (content_split(self.seed, "asked", key) == "val") == (split == "val")]
        every.sort(key=lambda key: digest(self.seed, split, "order", key))
        found = []
        for person, relation in every[:count]:
            choices = Choices(item_rng(self.seed, "all", "fact wording", f"{person} {relation}"))
            found.append(self._question(choices, person, relation, "document"))
        return found
