"""The characters that a recognizer, a Talker or an OCR model learns: the standard ones, given ones, or those of its data."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from datamodules.base import DataModule
from datamodules.data_sets import as_set
from datamodules.lazy_rows import LazyRows, map_rows, summary
from datamodules.manifests import MAX_BAD_SHARE, Row, report_bad
from muomni.frontends.char_vocab import char_table, learn_characters
from muomni.frontends.text_normalizer import LETTERS, normalize_text

log = logging.getLogger(__name__)

DATA = "data"
ANY = "any"
SHOWN = 12


def clean_transcript(text: str, *, lowercase: bool = False) -> str:
    """A transcript to learn: without space at its ends, optionally in lower case; letters with marks are one character where
    Unicode has one (NFC)."""
    return unicodedata.normalize("NFC", text.strip().lower() if lowercase else text.strip())


#: A text whose spelling tells one way to spell from another.
PROBE = ' The Ünï-e\u0301 Ӓ, "$5" at 7:30 – it\'s ﬁne '


def count_characters(rows: Sequence[Row]) -> Counter[str]:
    """How often each character is in the texts of some rows."""
    return Counter(summary(rows, "characters", lambda each: Counter(c for row in each for c in row["text"])))


def normalized_rows(rows: Sequence[Row], *, what: str, alphabet: str = LETTERS) -> Sequence[Row]:
    """The rows with their texts normalized for speech. One whose text has no words, or characters without any, is skipped and
    reported; over 1 % of them is a ValueError. what: the name of the data in messages."""
    if isinstance(rows, LazyRows):
        words = partial(_in_words, alphabet=alphabet)
        wordless = ~rows.column("has words", words, dtype=bool, key=alphabet)
        if wordless.any():
            first = rows[int(wordless.argmax())]
            report_bad(
                [f"{first['id']}: {first['text'][:40]!r} has no words"] * int(wordless.sum()),
                total=len(rows),
                what=what,
            )
        return rows.choose(~wordless).mapped(partial(_normalized, alphabet=alphabet), key=["normalized", alphabet])
    kept, bad = [], []
    for row in rows:
        spoken = normalize_text(row["text"], alphabet)
        if spoken.left_out or not spoken.text:
            bad.append(f"{row['id']}: {row['text'][:40]!r} {spoken.notice() or 'holds nothing to speak'}")
        else:
            kept.append(row | {"text": spoken.text})
    report_bad(bad, total=len(rows), what=what)
    return kept


def _in_words(row: Row, *, alphabet: str) -> bool:
    spoken = normalize_text(row["text"], alphabet)
    return bool(spoken.text) and not spoken.left_out


def _normalized(row: Row, *, alphabet: str) -> Row:
    return row | {"text": normalize_text(row["text"], alphabet).text}


class Alphabet:
    """The characters of a datamodule's texts.

    Args:
        option: None: the 98 of `frontends.char_vocab`. "data": those of the training texts. "any": the texts are not spelled by
            the model, and nothing is checked. Otherwise the characters themselves, each once.
    """

    def __init__(self, option: str | None) -> None:
        named = option not in (None, DATA, ANY)
        if named and (not option or len(set(option)) < len(option)):
            raise ValueError(
                f"characters={option!r}: name each character once, or give data, which learns them from the texts"
            )
        self.option = option
        self.characters = option if named else None
        """What the model is built with; None: the standard table."""
        self._logged: dict[str, bool] = {}
        """What was said of a manifest: whether over 1 % of its characters are outside."""

    @property
    def unknown(self) -> bool:
        """True until the characters of the training texts are learnt."""
        return self.option == DATA and self.characters is None

    def learn(self, texts: Iterable[str]) -> None:
        """Take the characters of the training texts, once."""
        if self.unknown:
            self.characters = learn_characters(texts)
            log.info("characters=data: %d characters, %r", len(self.characters), self.characters)

    def check(self, texts: Iterable[str], *, what: str) -> None:
        """Log a count of what cannot be written; over 1 % is what `refuse` raises. texts: or how often each character is in them.
        what: names the manifest."""
        if self.option == ANY:
            return
        counts = texts if isinstance(texts, Counter) else Counter(character for text in texts for character in text)
        known = char_table(self.characters).to_id
        outside = Counter({character: count for character, count in counts.items() if character not in known})
        if not outside:
            return
        shown = "".join(character for character, _ in outside.most_common(SHOWN)) + ".." * (len(outside) > SHOWN)
        line = (
            f"{what}: {outside.total()} of {counts.total()} characters cannot be written ({shown!r}): the model's are "
            f"{'the 98 of ASCII' if self.characters is None else repr(self.characters)}; characters=data takes those of the "
            "training texts"
        )
        if line not in self._logged:  # a manifest that is validated on, too
            self._logged[line] = outside.total() > MAX_BAD_SHARE * counts.total()
            log.warning("%s", line)

    def refuse(self) -> None:
        """Raise ValueError where over 1 % of a manifest's characters cannot be written."""
        for line, refused in self._logged.items():
            if refused:
                raise ValueError(f"over 1 % unwritable: {line}")


@dataclass(kw_only=True, eq=False, repr=False)
class CharacterData(DataModule):
    """Data whose texts a model writes or reads character by character. A subclass names the `shape` of its manifests.

    characters: as `Alphabet` takes them; later those that the model is built with, None: the standard ones.
    """

    shape: ClassVar[str]
    characters: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alphabet = Alphabet(self.characters)
        self.characters = self.alphabet.characters

    def spell(self, text: str) -> str:
        """A manifest's text as the model learns it."""
        return clean_transcript(text)

    def spelled(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows with their texts as the model learns them."""
        return map_rows(rows, self._spelled, key=["spelled", self.spell(PROBE)])

    def _spelled(self, row: Row) -> Row:
        return row | {"text": self.spell(row["text"])}

    def learn_characters(self, rows: Sequence[Row], *, phase: str) -> None:
        """With characters=data, from the training manifest, of which these spelled rows may be."""
        if self.alphabet.unknown:
            if self.train_files and (phase != "train" or self.sets):
                rows = self.spelled(self.train_rows())
            self.alphabet.learn(count_characters(rows))
        self.characters = self.alphabet.characters

    def check_characters(self, rows: Sequence[Row], *, what: str) -> None:
        """`Alphabet.check` of the rows' texts."""
        if self.alphabet.option != ANY:
            self.alphabet.check(count_characters(rows), what=what)

    def train_rows(self) -> Sequence[Row]:
        """The rows of the training manifests."""
        if not self.sets:
            return self.read_rows(str(self.train), self._row_split("train"), shape=self.shape, phase="train")
        rows: list[Row] = []
        for each in self.sets:
            with as_set(self, each):
                rows += self.read_rows(each.train, self._row_split("train"), shape=self.shape, phase="train")
        return rows

    def read(self, task: str) -> None:
        """As in the base. Raises ValueError where over 1 % of the characters of training or validation cannot be written; what
        is tested may hold anything, and is counted."""
        if task == "fit":
            self.samples("train")
            self.samples("val")
            self.alphabet.refuse()
        super().read(task)
