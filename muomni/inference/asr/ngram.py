"""python -m muomni.inference.asr.ngram text.txt out=lm.arpa     train an n-gram language model for the recognizer's beam search

    order=6         n-gram order
    unit=character  or word
    lowercase=true  as the recognizer was trained (datamodule.lowercase)
    split=train     only rows of a .jsonl manifest with that "split" (default: all)

The text has one sample per line; of a .jsonl manifest the field "text" is taken. Train on the recognizer's training texts,
never on those of its test.

Interpolated Kneser-Ney smoothing with one discount per order (Kneser and Ney 1995; Chen and Goodman 1999): lower orders count
the distinct contexts of a unit, not its occurrences. The file is ARPA (arpa.py), which other tools read too, and their files
are read here: a model whose units are all single characters is a character model. The first line of our files states unit and
case. A unit is looked up as it is written, then ignoring case: a recognizer mostly writes lower case, and many models are in
upper case.

Not KenLM: its Python package only reads models; the program that trains them is built apart, from C++.
"""

import copy
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import log
from pathlib import Path

from muomni.cli.key_value import read_options, run_program
from muomni.frontends.char_vocab import decode_characters
from muomni.inference.asr.arpa import BEGIN, END, LN10, LOG_ZERO, UNKNOWN, Gram, read_arpa, write_arpa
from muomni.inference.asr.lm_texts import read_texts
from muomni.user_path import user_path

log_file = logging.getLogger(__name__)

SPACE = "<space>"
SPACES = (SPACE, "|", "\u2581")  # names of the space in character models; ours first
UNITS = ("character", "word")
OPTIONS: dict[str, str | int | bool] = {
    "out": "lm.arpa",
    "order": 6,
    "unit": "character",
    "lowercase": True,
    "split": "",
}
HEADER = "muomni n-gram of units: "
RESERVED = (BEGIN, END, UNKNOWN)
UNKNOWN_LOG_PROB = -100 * LN10  # of unknown units under a file without <unk>, as in KenLM
MAX_CACHED = 1 << 20  # cached probabilities


def split_units(text: str, unit: str) -> list[str]:
    """The units of a text: its words without ARPA's reserved ones ("<s>"), or its characters with `SPACE` for the space, which
    ARPA uses as separator."""
    if unit == "word":
        return [word for word in text.split() if word not in RESERVED]
    return [SPACE if character.isspace() else character for character in text]


@dataclass
class NGram:
    """A back-off n-gram model as in ARPA, in natural logarithms.

    unit: "character" or "word". order: longest n-gram. grams: n-gram -> log-probability of its last unit given the others.
    backoff: context -> log weight of the shorter context's probability for units not seen after this one.
    """

    unit: str
    order: int
    grams: dict[Gram, float]
    backoff: dict[Gram, float]
    _cache: dict[tuple[Gram, str], float] = field(default_factory=dict, repr=False)
    characters: str | None = None
    """Alphabet of the recognizer whose symbols it scores; None: the standard one."""

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """All units, `</s>` and `<unk>` included; `<s>` is a context only."""
        return frozenset(gram[0] for gram in self.grams if len(gram) == 1 and gram[0] != BEGIN)

    @cached_property
    def capitals(self) -> int:
        """Number of units with capital letters."""
        return sum(unit != unit.lower() for unit in self.vocabulary)

    @property
    def case(self) -> str:
        """lower (also for a script without case), upper, or mixed."""
        small = any(unit != unit.upper() for unit in self.vocabulary - {*RESERVED, SPACE})
        return "lower" if not self.capitals else "mixed" if small else "upper"

    @cached_property
    def _by_folded_case(self) -> dict[str, str]:
        """Unit in folded case -> the most likely such unit of the vocabulary."""
        by_probability = sorted(self.vocabulary, key=lambda unit: (self.grams[(unit,)], unit))
        return {unit.casefold(): unit for unit in by_probability}

    def known(self, unit: str) -> str:
        """The vocabulary's spelling of a unit, `<unk>` if it has none."""
        return unit if unit in self.vocabulary else self._by_folded_case.get(unit.casefold(), UNKNOWN)

    def log_prob(self, context: Gram, unit: str) -> float:
        """log P(unit | the last order - 1 units of the context)."""
        unit = self.known(unit)
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        found = self._cache.get((context, unit))
        if found is None:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            found = self._cache[context, unit] = self._look_up(context, unit)
        return found

    def _look_up(self, context: Gram, unit: str) -> float:
        weight = 0.0
        while (*context, unit) not in self.grams:
            weight += self.backoff.get(context, 0.0)
            context = context[1:]
        return weight + self.grams[(*context, unit)]

    def text_log_prob(self, text: str) -> float:
        """log P of a whole text, `</s>` included."""
        context: Gram = (BEGIN,)
        total = 0.0
        for unit in [*split_units(text, self.unit), END]:
            total += self.log_prob(context, unit)
            context = self._extended(context, unit)
        return total

    # --- ctc_beam.LanguageModel: scoring of CTC symbols, one by one ----------------------------------------------

    def for_characters(self, characters: str | None) -> "NGram":
        """A copy that scores the symbols of a recognizer with this alphabet."""
        if characters == self.characters:
            return self
        other = copy.copy(self)
        other.characters = characters
        return other

    @property
    def start(self) -> tuple[Gram, str]:
        """The context, and the unfinished word."""
        return (BEGIN,), ""

    def advance(self, state: tuple[Gram, str], symbol: int) -> tuple[tuple[Gram, str], float]:
        """A character model scores each symbol, a word model each word at the space after it."""
        context, word = state
        character = decode_characters([symbol], self.characters)
        if self.unit == "word" and not character.isspace():
            return (context, word + character), 0.0
        if self.unit == "word" and not word:
            return state, 0.0
        unit = word or split_units(character, self.unit)[0]
        return (self._extended(context, unit), ""), self.log_prob(context, unit)

    def end(self, state: tuple[Gram, str]) -> float:
        """log P of the unfinished word, if any, and of `</s>`."""
        context, word = state
        total = 0.0
        if word:
            total, context = self.log_prob(context, word), self._extended(context, word)
        return total + self.log_prob(context, END)

    def _extended(self, context: Gram, unit: str) -> Gram:
        return (*context, self.known(unit))[-(self.order - 1) :] if self.order > 1 else ()

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write an ARPA file, atomically."""
        write_arpa(user_path(path), self.grams, self.backoff, comments=[f"# {HEADER}{self.unit}, case: {self.case}"])

    @classmethod
    def load(cls, path: str | Path) -> "NGram":
        """Read an ARPA file, ours or another tool's; an unchanged file is parsed once per process.

        A missing `<unk>` and capital letters are logged. Raises FileNotFoundError, or ValueError naming file and line.
        """
        path = user_path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no such language model: {path}; python -m muomni.inference.asr.ngram TEXT out={path}"
            )
        state = path.stat()
        return _loaded(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _loaded(path: Path, size: int, changed: int) -> NGram:
    """size, changed: current size and modification time of the file, part of the cache's key."""
    arpa = read_arpa(path)
    units = {gram[0] for gram in arpa.grams if len(gram) == 1} - {*RESERVED}
    if not units:
        raise ValueError(f"{path}: it holds no units except {', '.join(RESERVED)}")
    stated = re.search(rf"{HEADER}(\w+)", " ".join(arpa.comments))
    unit = stated[1] if stated else "character" if all(len(each) == 1 or each in SPACES for each in units) else "word"
    if unit not in UNITS:
        raise ValueError(f"{path}: n-gram of units {unit!r}: available are {', '.join(UNITS)}")
    grams, backoff = arpa.grams, arpa.backoff
    space = next((name for name in SPACES if name in units), SPACE)
    if unit == "character" and not stated and space != SPACE:
        grams, backoff = (
            {tuple(SPACE if each == space else each for each in gram): value for gram, value in found.items()}
            for found in (grams, backoff)
        )
    if (UNKNOWN,) not in grams:
        grams[(UNKNOWN,)] = UNKNOWN_LOG_PROB
        log_file.warning("%s has no %s: an unknown %s gets probability 1e-100", path, UNKNOWN, unit)
    model = NGram(unit=unit, order=arpa.order, grams=grams, backoff=backoff)
    if model.capitals:
        log_file.warning(
            "%s is in %s case (%d of %d %ss have capitals): units without an exact match are looked up ignoring case",
            path, model.case, model.capitals, len(units), unit,
        )  # fmt: skip
    log_file.info("%s: %d-gram of %d %ss, %s case", path, model.order, len(units), unit, model.case)
    return model


def train_ngram(texts: Iterable[str], *, order: int, unit: str) -> NGram:
    """Raises ValueError for an unknown unit, an order below 1 and for empty texts."""
    if unit not in UNITS:
        raise ValueError(f"unit={unit}: available are {', '.join(UNITS)}")
    if order < 1:
        raise ValueError(f"order={order}: at least 1 is needed")
    rows = [[BEGIN, *split_units(text, unit), END] for text in texts if text.strip()]
    if not rows:
        raise ValueError("no text to train a language model on")
    counts = _kneser_ney_counts(rows, order)
    units = {gram[0] for gram in counts[1]} | {UNKNOWN}
    probability: dict[Gram, float] = {}
    backoff: dict[Gram, float] = {}
    uniform = 1.0 / len(units)  # what unigrams back off to
    for n in range(1, order + 1):
        discount = _discount(counts[n].values())
        totals: Counter[Gram] = Counter()
        followers: Counter[Gram] = Counter()
        for gram, count in counts[n].items():
            totals[gram[:-1]] += count
            followers[gram[:-1]] += 1
        share = {context: discount * followers[context] / totals[context] for context in totals}
        grams = counts[n] if n > 1 else {(unit,): counts[1].get((unit,), 0) for unit in units}
        for gram, count in grams.items():
            context = gram[:-1]
            shorter = uniform if n == 1 else probability[gram[1:]]
            probability[gram] = max(count - discount, 0.0) / totals[context] + share[context] * shorter
        backoff.update({context: log(value) for context, value in share.items() if context})
    logs = {gram: log(value) for gram, value in probability.items()}
    logs[(BEGIN,)] = LOG_ZERO * LN10  # a context only, never predicted
    return NGram(unit=unit, order=order, grams=logs, backoff=backoff)


def _kneser_ney_counts(rows: list[list[str]], order: int) -> dict[int, Counter[Gram]]:
    """n -> n-grams with their counts: occurrences for the highest order and for n-grams that begin with `<s>`, else the number
    of distinct units before them."""
    counts: dict[int, Counter[Gram]] = {n: Counter() for n in range(1, order + 1)}
    for row in rows:
        for n in range(1, order + 1):
            for start in range(1 if n == 1 else 0, len(row) - n + 1):  # <s> alone is never predicted
                gram = tuple(row[start : start + n])
                if n == order or gram[0] == BEGIN:
                    counts[n][gram] += 1
    for n in range(order - 1, 0, -1):
        for gram in counts[n + 1]:
            counts[n][gram[1:]] += 1
    return counts


def _discount(counts: Iterable[int]) -> float:
    """n1 / (n1 + 2 n2) of the numbers of n-grams with count 1 and 2 (Ney, Essen and Kneser 1994); 0.5 if either is 0."""
    times = Counter(counts)
    return times[1] / (times[1] + 2 * times[2]) if times[1] and times[2] else 0.5


def main(arguments: list[str]) -> None:
    """Train and write a model; prints its size and its cross-entropy on the training text."""
    paths = [argument for argument in arguments if "=" not in argument]
    options = read_options([argument for argument in arguments if "=" in argument], OPTIONS)
    if not paths:
        usage = "TEXT... out=lm.arpa order=6 unit=character lowercase=true split=train"
        raise ValueError(f"name the text files to train on; python -m muomni.inference.asr.ngram {usage}")
    how = {"lowercase": options["lowercase"], "split": options["split"] or None}
    texts = [text for path in paths for text in read_texts(path, **how)]
    model = train_ngram(texts, order=options["order"], unit=options["unit"])
    model.save(options["out"])
    units = sum(len(split_units(text, model.unit)) + 1 for text in texts)
    nats = -sum(map(model.text_log_prob, texts)) / units
    print(f"{options['out']}: {len(texts)} texts, {len(model.grams)} n-grams, {nats:.3f} nats per {model.unit}")


if __name__ == "__main__":
    run_program(main)
