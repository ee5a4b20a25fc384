"""In which words something is said: draws a form of `forms.py`, and types it as people do.

The canonical form has the share `canonical` of instructions, and half as many documents, captions and recordings say it
otherwise: a small model learns facts and transcripts later, the more ways of saying them it meets. Of what is not
canonical, direct forms have DIRECT_SHARE and framed ones the rest; a pattern is drawn first, then its alternatives, so a
text's probability is exact. No two patterns of a type expand to the same text, and what typing changes can be told from the
text alone (tests enumerate both): no text arises in two ways.

Held out by `rotation` 0..4: every fifth pattern of each type, every fifth frame, and one synonym of each word that has
several. A held-out pattern or frame occurs in no training text. A held-out synonym occurs in documents, from which its
meaning can be learnt, but in no instruction, caption or recording.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal, NamedTuple

from datamodules.world import lexicon
from datamodules.world.forms import CLAUSE_FRAMES, FRAMES, NOUN_FRAMES, QUESTIONS, SYNONYMS, Asking
from datamodules.world.rng import Choices

ROTATIONS = 5  # ways to hold out; one pattern in five is held out in each
DIRECT_SHARE = 0.6  # of what is not canonical
FEWEST_SYNONYMS = 3  # of a word of which one is held out: the canonical one and another stay
TYPO_SHARE, NO_MARK_SHARE = 0.02, 0.15
CAPITALS = {"lower": 0.6, "first": 0.35, "all": 0.05}  # shares; of what is typed only
HOMOPHONES = frozenset({"color"})  # of a canonical word: nobody can tell how a recording spells it
Use = Literal["document", "instruction", "spoken", "held_out"]

_ALTERNATIVES = re.compile(r"\(([^()]*)\)|<(\w+)>")
_TYPED_WORDS = re.compile(r"(?<![\w'])[a-z]{4,}(?![\w'])")


class Form(NamedTuple):
    """A template with its slots. synonyms: the words of SYNONYMS in it that are not canonical."""

    template: str
    synonyms: frozenset[str]


def expand(pattern: str) -> Iterator[Form]:
    """Every template of a pattern, that of the first alternatives first."""
    pieces = _ALTERNATIVES.split(pattern)  # text, alternatives or None, synonym or None, text, ..
    options: list[Sequence[tuple[str, str]]] = []
    for text, alternatives, word in zip(pieces[::3], [*pieces[1::3], ""], [*pieces[2::3], None], strict=True):
        options.append([(text, "")])
        if word is not None:
            first, *others = SYNONYMS[word]
            options.append([(first, ""), *((other, other) for other in others)])
        else:
            options.append([(each, "") for each in alternatives.split("|")])
    for chosen in product(*options):
        template = "".join(text for text, _ in chosen)
        yield Form(template, frozenset(synonym for _, synonym in chosen if synonym))


@dataclass(frozen=True)
class Pool:
    """Patterns to draw from: their templates, and the weight of each pattern."""

    templates: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]

    def draw(self, choices: Choices) -> str:
        """A template."""
        return choices.pick(choices.weighted(self.templates, self.weights))


@lru_cache(maxsize=64)
def statement_pool(patterns: tuple[str, ...], canonical: float) -> Pool:
    """Statements, of which nothing is held out; the first form has the share `canonical` of all."""
    return _pool([(pattern, 1.0) for pattern in patterns], canonical, keep=lambda form: True)


def _pool(patterns: Sequence[tuple[str, float]], canonical: float, keep: Callable[[Form], bool]) -> Pool:
    """Patterns with their weights, whose forms `keep` accepts; the first form of all is the canonical one."""
    first = next(expand(patterns[0][0])).template
    groups: list[tuple[tuple[str, ...], float]] = [((first,), 0.0)] if canonical else []
    for pattern, weight in patterns if canonical < 1 else ():
        kept = tuple(form.template for form in expand(pattern) if keep(form))
        kept = tuple(template for template in kept if not canonical or template != first)
        groups += [(kept, weight)] if kept else []
    total = sum(weight for _, weight in groups)
    weights = [(1 - canonical) * weight / total if weight else canonical for _, weight in groups]
    return Pool(tuple(templates for templates, _ in groups), tuple(weights))


def patterns_of(asking: Asking) -> Iterator[tuple[str, float, int]]:
    """(pattern, weight, number of its held-out rotation or -1) of a type."""
    for index, pattern in enumerate(asking.direct):
        share = DIRECT_SHARE if asking.nouns or asking.clauses else 1.0
        yield pattern, share / len(asking.direct), (index - 1) % ROTATIONS if index else -1
    framed = [
        (frame.format(x=asked), index % ROTATIONS)
        for frames, askeds in ((FRAMES + NOUN_FRAMES, asking.nouns), (FRAMES + CLAUSE_FRAMES, asking.clauses))
        for index, frame in enumerate(frames) for asked in askeds
    ]  # fmt: skip
    yield from ((pattern, (1 - DIRECT_SHARE) / len(framed), rotation) for pattern, rotation in framed)


def held_out_synonyms(rotation: int) -> frozenset[str]:
    """The synonyms that no instruction, caption or recording has; no other word of any form is one of these."""
    return frozenset(each[1 + rotation % (len(each) - 1)] for each in SYNONYMS.values() if len(each) >= FEWEST_SYNONYMS)


@lru_cache(maxsize=256)
def pool(name: str, use: Use, *, rotation: int, canonical: float) -> Pool:
    """The forms of question type `name` for a use."""
    words = held_out_synonyms(rotation)
    every = [(pattern, weight, held == rotation) for pattern, weight, held in patterns_of(QUESTIONS[name])]
    if use != "held_out":
        hidden = {"document": frozenset(), "instruction": words, "spoken": words | HOMOPHONES}[use]
        trained = [(pattern, weight) for pattern, weight, held in every if not held]
        return _pool(trained, canonical, keep=lambda form: not form.synonyms & hidden)
    forms = [(pattern, weight) for pattern, weight, held in every if held]
    others = [(pattern, weight) for pattern, weight, held in every if not held]
    of_forms = _pool(forms, 0.0, keep=lambda form: not form.synonyms & words)
    of_words = _pool(others, 0.0, keep=lambda form: bool(form.synonyms & words))
    return Pool(of_forms.templates + of_words.templates, of_forms.weights + of_words.weights)


@lru_cache(maxsize=1)
def known_words() -> frozenset[str]:
    """Every word of the world's forms and lists, people's names aside."""
    lists = (lexicon.COLOURS, lexicon.SHAPES, lexicon.PLURALS.values(), lexicon.SIZES, lexicon.PLACES, lexicon.RELATIONS,
             *lexicon.RELATION_VALUES.values(), lexicon.ACTORS, lexicon.THINGS, lexicon.CONTAINERS, lexicon.DIGITS,
             lexicon.WORDS, ("object", "objects"))  # fmt: skip
    patterns = [pattern for asking in QUESTIONS.values() for pattern, _, _ in patterns_of(asking)]
    texts = [form.template for pattern in patterns for form in expand(pattern)]
    plain = " ".join([*(word for each in lists for word in each), *(re.sub(r"\{\w+\}", "", text) for text in texts)])
    return frozenset(re.findall(r"[a-z']+", plain))


def misspelt(word: str) -> str:
    """The word with its last two letters exchanged. The only typing error, so that each can be undone."""
    return word[:-2] + word[-1:] + word[-2:-1]


def as_typed(choices: Choices, text: str, *, capitals: bool) -> str:
    """The text with its question mark or without, one in fifty with a typing error in a known word of four letters or more
    (which the misspelt word cannot be taken for), and with `capitals` in one of CAPITALS."""
    if text.endswith("?") and choices.weighted((False, True), (1 - NO_MARK_SHARE, NO_MARK_SHARE)):
        text = text[:-1]
    words = known_words()
    found = [
        match for match in _TYPED_WORDS.finditer(text)
        if match[0] in words and misspelt(match[0]) != match[0] and misspelt(match[0]) not in words
    ]  # fmt: skip
    if found and choices.weighted((False, True), (1 - TYPO_SHARE, TYPO_SHARE)):
        match = choices.pick(found)
        text = text[: match.start()] + misspelt(match[0]) + text[match.end() :]
    if capitals:
        how = choices.weighted(tuple(CAPITALS), tuple(CAPITALS.values()))
        text = {"lower": text, "first": text[:1].upper() + text[1:], "all": text.upper()}[how]
    return text


class Wording:
    """The wordings of one world. rotation: which are held out, 0..4; canonical: the share of the canonical form, 0..1."""

    def __init__(self, *, rotation: int, canonical: float):
        self.rotation, self.canonical = rotation, canonical

    def form(self, choices: Choices, name: str, use: Use) -> str:
        """A template of question type `name`, with its slots."""
        share = self.canonical if use == "instruction" else (1 + self.canonical) / 2
        return pool(name, use, rotation=self.rotation, canonical=share).draw(choices)

    def ask(self, choices: Choices, name: str, use: Use, **slots: str) -> str:
        """A question as it is typed; in documents all is lower case."""
        text = self.form(choices, name, use).format(**slots)
        return as_typed(choices, text, capitals=use != "document")

    def state(self, choices: Choices, patterns: tuple[str, ...], **slots: str) -> str:
        """A statement."""
        return statement_pool(patterns, (1 + self.canonical) / 2).draw(choices).format(**slots)


def canonical_form(name: str) -> str:
    """The canonical template of question type `name`."""
    return next(expand(QUESTIONS[name].direct[0])).template
