"""Sums and differences in digits and in words; a fifth of the pairs is held out of training in every form.

easy: numbers 0..20. hard: 0..99, and further questions beyond the trained range (100..199, type arithmetic_far).
"""

from functools import cache

from datamodules.world.rng import Choices, digest, item_rng
from datamodules.world.wording import Use, Wording
from muomni.frontends.number_words import count_words

LARGEST = {"easy": 20, "hard": 99}
HELD_OUT_SHARE = 0.2
VAL_SHARE_OF_HELD_OUT = 0.25
SIGNS = {"plus": "+", "minus": "-"}

Sum = tuple[str, int, int]  # (plus | minus, first, second); never a negative result


class Arithmetic:
    """The trained and the held-out pairs of the world `seed`. a + b and b + a are held out together."""

    def __init__(self, *, seed: int, level: str):
        self.seed = seed
        largest = LARGEST[level]
        self.trained: dict[str, list[Sum]] = {"plus": [], "minus": []}
        self.held_out: dict[str, list[Sum]] = {"val": [], "test": []}
        for sign in SIGNS:
            for first in range(largest + 1):
                for second in range(largest + 1 if sign == "plus" else first + 1):
                    split = self._split(sign, first, second)
                    (self.trained[sign] if split == "train" else self.held_out[split]).append((sign, first, second))

    def _split(self, sign: str, first: int, second: int) -> str:
        content = (sign, *(sorted((first, second)) if sign == "plus" else (first, second)))
        share = digest(self.seed, "split", "sum", content) / 2**64
        if share >= HELD_OUT_SHARE:
            return "train"
        return "val" if share < HELD_OUT_SHARE * VAL_SHARE_OF_HELD_OUT else "test"

    def draw(self, choices: Choices) -> Sum:
        """A trained pair."""
        return choices.pick(self.trained[choices.pick(("plus", "minus"))])

    def test_sums(self, split: str, *, question_type: str, count: int) -> list[Sum]:
        """Up to `count` sums: of type arithmetic (held out), arithmetic_seen (trained) or arithmetic_far (beyond)."""
        pool = {
            "arithmetic": self.held_out[split],
            "arithmetic_seen": self.trained["plus"] + self.trained["minus"],
            "arithmetic_far": [("plus", first, second) for first in range(100, 200) for second in range(0, 100, 3)],
        }[question_type]
        return item_rng(self.seed, split, question_type, 0).sample(pool, min(count, len(pool)))


def expression(numbers: Sum, *, words: bool) -> str:
    """ "12 + 7" or "twelve plus seven"."""
    sign, first, second = numbers
    return f"{_written(first, words)} {sign if words else SIGNS[sign]} {_written(second, words)}"


def value_text(numbers: Sum, *, words: bool) -> str:
    """The result in digits or words."""
    sign, first, second = numbers
    return _written(first + second if sign == "plus" else first - second, words)


def equation(numbers: Sum, *, words: bool) -> str:
    """ "12 + 7 = 19" or "twelve plus seven is nineteen"."""
    return f"{expression(numbers, words=words)} {'is' if words else '='} {value_text(numbers, words=words)}"


def sum_question(choices: Choices, wording: Wording, numbers: Sum, *, words: bool, use: Use) -> tuple[str, str]:
    """A typed question for a sum, and its answer."""
    return wording.ask(choices, "sum", use, a=expression(numbers, words=words)), value_text(numbers, words=words)


@cache
def _written(number: int, words: bool) -> str:
    return count_words(number) if words else str(number)
