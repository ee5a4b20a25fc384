"""Facts about invented people: four relations of sixteen values, the same in every split of one world.

Of a quarter of the people training never asks: their facts occur in statements alone (type fact_unasked).
"""

from datamodules.world.lexicon import FACT_QUESTIONS, NAMES, RELATION_VALUES, STATEMENTS
from datamodules.world.rng import Choices, content_split, digest, item_rng

UNASKED_SHARE = 0.25


class Facts:
    """Who lives where, works as what, likes which food and keeps which pet in the world `seed`.

    `level` hard gives every person a second name, so that a name has several tokens.
    """

    def __init__(self, *, seed: int, people: int, level: str):
        rng = item_rng(seed, "all", "facts", 0)
        self.seed = seed
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
        template = choices.pick(STATEMENTS[relation])
        return template.format(name=self.names[person], value=self.values[relation][person])

    def question(self, choices: Choices) -> tuple[str, str]:
        """A question about a person of whom training asks, and its answer."""
        person = choices.pick(self.asked)
        relation = choices.pick(tuple(FACT_QUESTIONS))
        return self._question(person, relation, choices.pick(FACT_QUESTIONS[relation]))

    def _question(self, person: int, relation: str, phrase: str) -> tuple[str, str]:
        return phrase.format(name=self.names[person]), self.values[relation][person]

    def test_questions(self, split: str, *, asked: bool, count: int) -> list[tuple[str, str]]:
        """Up to `count` different facts of val or test (by hash), one phrase each, of asked or never-asked people."""
        people = self.asked if asked else self.unasked
        every = [(person, relation) for person in people for relation in FACT_QUESTIONS]
        every = [key for key in every if (content_split(self.seed, "asked", key) == "val") == (split == "val")]
        every.sort(key=lambda key: digest(self.seed, split, "order", key))
        found = []
        for person, relation in every[:count]:
            phrases = FACT_QUESTIONS[relation]
            phrase = phrases[digest(self.seed, "phrase", person, relation) % len(phrases)]
            found.append(self._question(person, relation, phrase))
        return found
