"""python -m muomni.inference.asr.ngram text.txt out=lm.arpa     an n-gram language model of a text, for the recogniser's beams

    order=6         symbols that hang together: the last of them is told by those before it
    unit=character  or word
    lowercase=true  as the recogniser was trained (datamodule.lowercase)

The text holds a sample a line; of a .jsonl manifest the field "text" is taken. Train on what the recogniser was trained on,
never on what it is measured with.

Interpolated Kneser-Ney smoothing with one discount an order (Kneser and Ney 1995; Chen and Goodman 1999): of the shorter
contexts it is counted in how many places a symbol stands, not how often. The file is ARPA (arpa.py), which other tools read
too, and theirs are read here: an n-gram of characters is told by its units of one character each. Its first line says unit and
case. A unit is looked up as it is written, or else whatever its case: a recogniser mostly writes lower case, and many models
are in upper case.

Not KenLM: its Python package only reads models; the program that trains them is built apart, from C++.

"""

import copy
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import log
from pathlib import Path

from muomni.frontends.char_vocab import decode_characters
from muomni.inference.asr.arpa import BEGIN, END, LN10, UNKNOWN, Gram, read_arpa, write_arpa
from muomni.inference.asr.lm_texts import read_texts
from muomni.user_path import user_path

log_file = logging.getLogger(__name__)

SPACE = "<space>"
SPACES = (SPACE, "|", "\u2581")  # what a model of characters calls the space; ours first
UNITS = ("character", "word")
HEADER = "muomni n-gram of units: "
RESERVED = (BEGIN, END, UNKNOWN)
CLOSED = -100 * LN10  # log-probability of the unknown in a file that has none, as in KenLM
MAX_CACHED = 1 << 20  # looked-up probabilities that are remembered


def split_units(text: str, unit: str) -> list[str]:
    """The units of a text: its words, or its characters with a name for the space, which ARPA uses between units. Words that
    ARPA has other uses for ("<s>") are left out."""
    if unit == "word":
        return [word for word in text.split() if word not in RESERVED]
    return [SPACE if character.isspace() else character for character in text]


@dataclass
class NGram:
    """An n-gram model with back-off, as ARPA holds it. Natural logarithms.

    unit: "character" or "word". order: longest n-gram. grams: n-gram -> log-probability of its last unit behind the
    others. backoff: context -> what a unit that was never seen behind it costs, beside its probability behind a shorter one.
    """

    unit: str
    order: int
    grams: dict[Gram, float]
    backoff: dict[Gram, float]
    _cache: dict[tuple[Gram, str], float] = field(default_factory=dict, repr=False)
    characters: str | None = None
    """Of the recogniser whose symbols it scores; None: the standard ones."""

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """All units, the end and the unknown one included; the begin is a context only."""
        return frozenset(gram[0] for gram in self.grams if len(gram) == 1 and gram[0] != BEGIN)

    @cached_property
    def capitals(self) -> int:
        """How many units hold capital letters."""
        return sum(unit != unit.lower() for unit in self.vocabulary)

    @property
    def case(self) -> str:
        """ "lower" (or a script without case), "upper", or "mixed"."""
        small = any(unit != unit.upper() for unit in self.vocabulary - {*RESERVED, SPACE})
        return "lower" if not self.capitals else "mixed" if small else "upper"

    @cached_property
    def _whatever_case(self) -> dict[str, str]:
        """Unit in folded case -> the likeliest of the vocabulary's."""
        likeliest_last = sorted(self.vocabulary, key=lambda unit: (self.grams[(unit,)], unit))
        return {unit.casefold(): unit for unit in likeliest_last}

    def known(self, unit: str) -> str:
        """A unit as the vocabulary has it."""
        return unit if unit in self.vocabulary else self._whatever_case.get(unit.casefold(), UNKNOWN)

    def log_prob(self, context: Gram, unit: str) -> float:
        """log P(unit | context), of which the last order - 1 units count."""
        unit = self.known(unit)
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        found = self._cache.get((context, unit))
        if found is None:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            found = self._cache[context, unit] = self._look_up(context, unit)
        return found

    def _look_up(self, context: Gram, unit: str) -> float:
        cost = 0.0
        while (*context, unit) not in self.grams:
            cost += self.backoff.get(context, 0.0)
            context = context[1:]
        return cost + self.grams[(*context, unit)]

    def text_log_prob(self, text: str) -> float:
        """log P of a whole text, its end included."""
        context: Gram = (BEGIN,)
        total = 0.0
        for unit in [*split_units(text, self.unit), END]:
            total += self.log_prob(context, unit)
            context = self._moved(context, unit)
        return total

    # --- the recogniser's view: CTC symbols, one after the other (ctc_beam.LanguageModel) ------------------------

    def spelled(self, characters: str | None) -> "NGram":
        """The same model for a recogniser with characters of its own."""
        if characters == self.characters:
            return self
        other = copy.copy(self)
        other.characters = characters
        return other

    @property
    def start(self) -> tuple[Gram, str]:
        """Units so far, and the word that is being spelled."""
        return (BEGIN,), ""

    def advance(self, state: tuple[Gram, str], symbol: int) -> tuple[tuple[Gram, str], float]:
        """A character model scores each symbol, a word model each word at the space behind it."""
        context, spelled = state
        character = decode_characters([symbol], self.characters)
        if self.unit == "word" and not character.isspace():
            return (context, spelled + character), 0.0
        if self.unit == "word" and not spelled:
            return state, 0.0
        unit = spelled or split_units(character, self.unit)[0]
        return (self._moved(context, unit), ""), self.log_prob(context, unit)

    def end(self, state: tuple[Gram, str]) -> float:
        """Of the end, and before it of a word that no space has closed."""
        context, spelled = state
        closing = 0.0
        if spelled:
            closing, context = self.log_prob(context, spelled), self._moved(context, spelled)
        return closing + self.log_prob(context, END)

    def _moved(self, context: Gram, unit: str) -> Gram:
        return (*context, self.known(unit))[-(self.order - 1) :] if self.order > 1 else ()

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write ARPA, whole or not at all."""
        write_arpa(user_path(path), self.grams, self.backoff, comments=[f"# {HEADER}{self.unit}, case: {self.case}"])

    @classmethod
    def load(cls, path: str | Path) -> "NGram":
        """Read ARPA, ours or another tool's; a file that has not changed is parsed once.

        What is odd about it is said in the log. Raises FileNotFoundError, or ValueError naming the file and, where it is
        damaged, the line.
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
    """size, changed: of the file as it is now."""
    arpa = read_arpa(path)
    units = {gram[0] for gram in arpa.grams if len(gram) == 1} - {*RESERVED}
    if not units:
        raise ValueError(f"{path}: it holds no units beside {', '.join(RESERVED)}")
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
        grams[(UNKNOWN,)] = CLOSED
        log_file.warning(
            "%s has no %s: a %s that it does not know is taken for all but impossible", path, UNKNOWN, unit
        )
    model = NGram(unit=unit, order=arpa.order, grams=grams, backoff=backoff)
    if model.capitals:
        log_file.warning(
            "%s is of %s case (%d of %d %ss hold capitals): what has no match as it is written is looked up whatever its case",
            path, model.case, model.capitals, len(units), unit,
        )  # fmt: skip
    log_file.info("%s: %d-gram of %d %ss, %s case", path, model.order, len(units), unit, model.case)
    return model


def train_ngram(texts: Iterable[str], *, order: int, unit: str) -> NGram:
    """Raises ValueError for an unknown unit, an order below 1 and for texts that hold nothing."""
    if unit not in UNITS:
        raise ValueError(f"unit={unit}: available are {', '.join(UNITS)}")
    if order < 1:
        raise ValueError(f"order={order}: at least 1 is needed")
    rows = [[BEGIN, *split_units(text, unit), END] for text in texts if text.strip()]
    if not rows:
        raise ValueError("there is no text to train a language model on")
    counts = _kneser_ney_counts(rows, order)
    units = {gram[0] for gram in counts[1]} | {UNKNOWN}
    probability: dict[Gram, float] = {}
    backoff: dict[Gram, float] = {}
    lower = {(): 1.0 / len(units)}  # below the unigrams every unit is alike
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
            rest = lower[()] if n == 1 else probability[gram[1:]]
            probability[gram] = max(count - discount, 0.0) / totals[context] + share[context] * rest
        backoff.update({context: log(value) for context, value in share.items() if context})
    logs = {gram: log(value) for gram, value in probability.items()}
    logs[(BEGIN,)] = -99 * LN10  # a context that is never told, in ARPA's words
    return NGram(unit=unit, order=order, grams=logs, backoff=backoff)


def _kneser_ney_counts(rows: list[list[str]], order: int) -> dict[int, Counter[Gram]]:
    """n -> n-grams with their counts: occurrences for the longest and for those that open a text, else the number of
    different units that stand before them."""
    counts: dict[int, Counter[Gram]] = {n: Counter() for n in range(1, order + 1)}
    for row in rows:
        for n in range(1, order + 1):
            for place in range(1 if n == 1 else 0, len(row) - n + 1):  # the begin alone is never told
                gram = tuple(row[place : place + n])
                if n == order or gram[0] == BEGIN:
                    counts[n][gram] += 1
    for n in range(order - 1, 0, -1):
        for gram in counts[n + 1]:
            counts[n][gram[1:]] += 1
    return counts


def _discount(counts: Iterable[int]) -> float:
    """n1 / (n1 + 2 n2) of the n-grams that were counted once and twice (Ney, Essen and Kneser 1994), within (0, 1)."""
    times = Counter(counts)
    return times[1] / (times[1] + 2 * times[2]) if times[1] and times[2] else 0.5


def main(arguments: list[str]) -> None:
    """Train and write; says how large the model is and how well it knows its own text."""
    options = {"out": "lm.arpa", "order": "6", "unit": "character", "lowercase": "true"}
    paths = [argument for argument in arguments if "=" not in argument]
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = set(given) - set(options)
    if unknown or not paths:
        problem = f"unknown option {sorted(unknown)[0]!r}" if unknown else "name the text files to train on"
        raise ValueError(
            f"{problem}; python -m muomni.inference.asr.ngram TEXT... {' '.join(f'{k}={v}' for k, v in options.items())}"
        )
    options |= given
    if not options["order"].isdigit():
        raise ValueError(f"order={options['order']}: a whole number from 1 on is needed")
    texts = [text for path in paths for text in read_texts(path, lowercase=options["lowercase"] != "false")]
    model = train_ngram(texts, order=int(options["order"]), unit=options["unit"])
    model.save(options["out"])
    units = sum(len(split_units(text, model.unit)) + 1 for text in texts)
    nats = -sum(map(model.text_log_prob, texts)) / units
    print(f"{options['out']}: {len(texts)} texts, {len(model.grams)} n-grams, {nats:.3f} nats a {model.unit}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
