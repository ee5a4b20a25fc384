r"""ARPA, the plain-text n-gram format of SRILM, KenLM and others; logarithms to the base 10.

    # lines before \data\ are comments; KenLM requires them to begin with #
    \data\
    ngram 1=COUNT                                            for each order

    \1-grams:
    log-probability <tab> units <tab> back-off weight        the weight is optional, and absent in the highest order

    \end\

Parsed strictly: the stated counts must match the content, so a truncated file is never taken for a smaller model.

Not KenLM's reader: its Python package is compiled from C++ when it is installed, and these files are small.
"""

import gzip
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log
from pathlib import Path

from muomni.checkpoints.atomic_write import atomic_write

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN10 = log(10.0)
LOG_ZERO = -99.0  # stands for log 0, as in SRILM's files
MAX_LINE_BYTES = 1 << 20
_NAMES = {name.upper(): name for name in (BEGIN, END, UNKNOWN)} | {"<Unk>": UNKNOWN}
_COUNT, _SECTION = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)"), re.compile(r"\\(\d+)-grams:")
_MAX_COMMENTS = 100

Gram = tuple[str, ...]


@dataclass(slots=True)
class Arpa:
    """Content of a file, in natural logarithms.

    grams: n-gram -> log-probability of its last unit given the others. backoff: context -> weight, if the file has one.
    comments: the lines before the data. `<s>`, `</s>` and `<unk>` are normalised to lower case.
    """

    order: int = 0
    grams: dict[Gram, float] = field(default_factory=dict)
    backoff: dict[Gram, float] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def read_arpa(path: str | Path) -> Arpa:
    """Read a file, plain or gzipped. Raises ValueError naming file and line for anything but ARPA, for a truncated file, and
    for log-probabilities that are NaN or positive."""
    path = Path(path)
    lines = _lines(path)
    arpa = Arpa(comments=_comments(path, lines))
    stated: dict[int, int] = {}
    held = highest = 0  # n-grams read of the current section; the highest order
    for number, text in lines:
        try:
            if arpa.order and text[0] != "\\":
                _add(arpa, text, highest=arpa.order == highest)
                held += 1
            elif text == "\\end\\":
                _check_count(arpa.order, held, stated)
                if arpa.order != highest or not highest:
                    raise ValueError("the file ends before its highest order")
                return arpa
            elif match := _SECTION.fullmatch(text):
                _check_count(arpa.order, held, stated)
                arpa.order, held, highest = arpa.order + 1, 0, max(stated, default=0)
                if int(match[1]) != arpa.order or arpa.order not in stated:
                    raise ValueError(f"section {text} where {arpa.order}-grams are expected")
            elif (match := _COUNT.fullmatch(text)) and not arpa.order:
                stated[int(match[1])] = int(match[2])
            else:
                raise ValueError(f"not a line of an ARPA file: {text[:60]!r}")
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
    raise ValueError(f"{path}: the file is cut off: its last line must be \\end\\")


def write_arpa(
    path: str | Path,
    grams: Mapping[Gram, float],
    backoff: Mapping[Gram, float],
    *,
    comments: Sequence[str] = (),
) -> None:
    """Write natural logarithms as ARPA, atomically. comments: lines before the data, each beginning with #."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    order = max(map(len, grams))
    by_order: dict[int, list[Gram]] = {n: [] for n in range(1, order + 1)}
    for gram in sorted(grams):
        by_order[len(gram)].append(gram)
    lines = [*comments, "", "\\data\\", *(f"ngram {n}={len(found)}" for n, found in by_order.items())]
    for n, found in by_order.items():
        lines += ["", f"\\{n}-grams:"]
        for gram in found:
            weight = f"\t{backoff[gram] / LN10:.6f}" if gram in backoff and n < order else ""
            lines.append(f"{min(grams[gram] / LN10, 0.0):.6f}\t{' '.join(gram)}{weight}")
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


def _comments(path: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    """Consume and return the lines before the data."""
    comments: list[str] = []
    for _, text in lines:
        if text == "\\data\\":
            return comments
        if text.startswith("mmap lm http://kheafield.com"):
            raise ValueError(f"{path}: a binary model of KenLM: give the ARPA file that it was built from")
        if len(comments) < _MAX_COMMENTS:
            comments.append(text)
    raise ValueError(
        f"{path}: no line \\data\\, so it is not an ARPA file; python -m muomni.inference.asr.ngram TEXT out={path}"
    )


def _add(arpa: Arpa, text: str, *, highest: bool) -> None:
    """Add the n-gram of a line to the current section. Fields are separated by tabs or spaces only: a word may hold a no-break
    space."""
    value, *units = [word for word in text.replace("\t", " ").split(" ") if word]
    weight = units.pop() if len(units) == arpa.order + 1 else None
    if len(units) != arpa.order:
        raise ValueError(f"not a line of an ARPA file, which has a number and {arpa.order} unit(s): {text[:60]!r}")
    gram = tuple(_NAMES.get(unit) or sys.intern(unit) for unit in units)
    if gram in arpa.grams:
        raise ValueError(f"the n-gram {' '.join(gram)!r} is in the file twice")
    log_prob = _number(value, text)
    if not log_prob <= 0:
        raise ValueError(f"log-probability {value}: a number of at most 0 is needed")
    arpa.grams[gram] = max(log_prob, LOG_ZERO) * LN10
    if weight is not None and not highest:
        log_weight = _number(weight, text)
        if log_weight != log_weight or log_weight == inf:
            raise ValueError(f"back-off weight {weight}: a finite number is needed")
        arpa.backoff[gram] = max(log_weight, LOG_ZERO) * LN10


def _number(word: str, text: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"not a line of an ARPA file ({word!r} is not a number): {text[:60]!r}") from None


def _check_count(order: int, held: int, stated: Mapping[int, int]) -> None:
    if order and held != stated[order]:
        raise ValueError(f"{held} {order}-grams before this line, the file states {stated[order]}: it is damaged")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Stripped lines that are not blank, with their numbers."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise ValueError(f"{path}:{number}: a line of over {MAX_LINE_BYTES} bytes: not an ARPA file")
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip(" \t\r\n")
                if text:
                    yield number, text
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}:{number}: not UTF-8 ({error.reason}): not an ARPA file, or in another encoding"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: a damaged gzip file ({error})") from error
