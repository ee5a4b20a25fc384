"""python -m muomni.inference.ngram text.txt out=lm.arpa     an n-gram language model of a text, for the recogniser's beams

    order=6         symbols that hang together: the last of them is told by those before it
    unit=character  or word
    lowercase=true  as the recogniser was trained (datamodule.lowercase)

The text holds a sample a line; of a .jsonl manifest the field "text" is taken. Train on what the recogniser was trained on,
never on what it is measured with.

Interpolated Kneser-Ney smoothing with one discount an order (Kneser and Ney 1995; Chen and Goodman 1999): of the shorter
contexts it is counted in how many places a symbol stands, not how often. The file is ARPA, plain text, log10: other tools
read it too. Its first line says the unit.
"""

import copy
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import log
from pathlib import Path

from muomni.frontends.characters import decode_characters

BEGIN, END, UNKNOWN, SPACE = "<s>", "</s>", "<unk>", "<space>"
UNITS = ("character", "word")
HEADER = "muomni n-gram of units: "
LN10 = log(10.0)
Gram = tuple[str, ...]


def split_units(text: str, unit: str) -> list[str]:
    """The units of a text: its words, or its characters with a name for the space, which ARPA uses between units."""
    if unit == "word":
        return text.split()
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

    def log_prob(self, context: Gram, unit: str) -> float:
        """log P(unit | context), of which the last order - 1 units count."""
        unit = unit if unit in self.vocabulary else UNKNOWN
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        found = self._cache.get((context, unit))
        if found is None:
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
        unit = unit if unit in self.vocabulary else UNKNOWN
        return (*context, unit)[-(self.order - 1) :] if self.order > 1 else ()

    # --- files -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write ARPA, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        by_order: dict[int, list[Gram]] = defaultdict(list)
        for gram in sorted(self.grams):
            by_order[len(gram)].append(gram)
        lines = [f"{HEADER}{self.unit}", "", "\\data\\"]
        lines += [f"ngram {n}={len(by_order[n])}" for n in range(1, self.order + 1)]
        for n in range(1, self.order + 1):
            lines += ["", f"\\{n}-grams:"]
            for gram in by_order[n]:
                behind = f"\t{self.backoff[gram] / LN10:.6f}" if gram in self.backoff else ""
                lines.append(f"{self.grams[gram] / LN10:.6f}\t{' '.join(gram)}{behind}")
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> "NGram":
        """Raises FileNotFoundError or ValueError naming the file and, where it is damaged, the line."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such language model: {path}; python -m muomni.inference.ngram TEXT out={path}")
        grams: dict[Gram, float] = {}
        backoff: dict[Gram, float] = {}
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        unit = lines[0].removeprefix(HEADER).strip()
        if unit not in UNITS:
            raise ValueError(f"{path}: its first line must be '{HEADER}character' or '{HEADER}word'")
        for number, line in enumerate(lines, start=1):
            if "\t" not in line:
                continue
            value, gram, *rest = line.split("\t")
            try:
                grams[tuple(gram.split(" "))] = float(value) * LN10
                if rest:
                    backoff[tuple(gram.split(" "))] = float(rest[0]) * LN10
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not a line of an ARPA file: {line[:60]!r}") from error
        if (UNKNOWN,) not in grams or "\\end\\" not in lines:
            raise ValueError(f"{path}: the file is cut off, or it lacks {UNKNOWN}; train it again")
        return cls(unit=unit, order=max(map(len, grams)), grams=grams, backoff=backoff)


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


def read_texts(path: str | Path, *, lowercase: bool) -> Iterator[str]:
    """Samples of a text file, a line each, or the field "text" of a .jsonl manifest. Errors name file and line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such text: {path}")
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if path.suffix == ".jsonl" and line.strip():
            try:
                line = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: not an object with the field 'text'") from error
        if line.strip():
            yield " ".join((line.lower() if lowercase else line).split())


def main(arguments: list[str]) -> None:
    """Train and write; says how large the model is and how well it knows its own text."""
    options = {"out": "lm.arpa", "order": "6", "unit": "character", "lowercase": "true"}
    paths = [argument for argument in arguments if "=" not in argument]
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = set(given) - set(options)
    if unknown or not paths:
        problem = f"unknown option {sorted(unknown)[0]!r}" if unknown else "name the text files to train on"
        raise ValueError(
            f"{problem}; python -m muomni.inference.ngram TEXT... {' '.join(f'{k}={v}' for k, v in options.items())}"
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
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
