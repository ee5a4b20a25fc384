"""The characters that a recogniser, a Talker or a reader is taught: those of the table, given ones, or those of its data."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

from datamodules.base import DataModule
from datamodules.manifests import MAX_BAD_SHARE, read_manifest, report_bad
from muomni.frontends.char_vocab import learn_characters, table_of
from muomni.frontends.text_normalizer import LETTERS, speak_out

log = logging.getLogger(__name__)

DATA = "data"
ANY = "any"
SHOWN = 12


def clean_transcript(text: str, *, lowercase: bool = False) -> str:
    """A transcript as it is learnt: no space at its ends, on demand in lower case; letters with marks are one character where
    Unicode has one (NFC)."""
    return unicodedata.normalize("NFC", text.strip().lower() if lowercase else text.strip())


def normalized_rows(rows: list[dict[str, Any]], *, what: str, alphabet: str = LETTERS) -> list[dict[str, Any]]:
    """The rows with their texts as they are spoken. One whose text has no words, or characters without any, is skipped and
    reported; over 1 % of them is a ValueError. what: the name of the data in messages."""
    kept, bad = [], []
    for row in rows:
        spoken = speak_out(row["text"], alphabet)
        if spoken.left_out or not spoken.text:
            bad.append(f"{row['id']}: {row['text'][:40]!r} {spoken.notice() or 'holds nothing to speak'}")
            continue
        kept.append(row | {"text": spoken.text})
    report_bad(bad, total=len(rows), what=what)
    return kept


class Alphabet:
    """What a datamodule knows of its characters.

    Args:
        asked: None: the 98 of `frontends.characters`. "data": those of the training texts. "any": the texts are not spelled by
            the model, and nothing is checked. Else the characters themselves, each once.
    """

    def __init__(self, asked: str | None) -> None:
        if asked not in (None, DATA, ANY) and (not asked or len(set(asked)) < len(asked)):
            raise ValueError(
                f"characters={asked!r}: name each character once, or give data, which learns them from the texts"
            )
        self.asked = asked
        self.characters = None if asked in (None, DATA, ANY) else asked
        """What the model is built with; None: the table."""
        self._said: set[str] = set()
        self.refusals: list[str] = []
        """Of each manifest of which over 1 % of the characters are outside."""

    @property
    def unknown(self) -> bool:
        """Whether the characters are still to be learnt."""
        return self.asked == DATA and self.characters is None

    def learn(self, texts: Iterable[str]) -> None:
        """Take the characters of the training texts, once."""
        if self.unknown:
            self.characters = learn_characters(texts)
            log.info("characters=data: %d characters, %r", len(self.characters), self.characters)

    def check(self, texts: Iterable[str], *, what: str) -> None:
        """Count what cannot be written, and say it in a line; over 1 % is kept as a refusal. what: names the manifest."""
        if self.asked == ANY:
            return
        counts = Counter(character for text in texts for character in text)
        known = table_of(self.characters).to_id
        outside = Counter({character: count for character, count in counts.items() if character not in known})
        if not outside:
            return
        shown = "".join(character for character, _ in outside.most_common(SHOWN)) + (
            ".." if len(outside) > SHOWN else ""
        )
        line = (
            f"{what}: {outside.total()} of {counts.total()} characters cannot be written ({shown!r}): the model's are "
            f"{'the 98 of ASCII' if self.characters is None else repr(self.characters)}; characters=data takes those of the "
            "training texts"
        )
        if line not in self._said:  # a manifest that is validated on, too
            self._said.add(line)
            log.warning("%s", line)
        if outside.total() > MAX_BAD_SHARE * counts.total():
            self.refusals.append(line)

    def refuse(self) -> None:
        """Raise ValueError where over 1 % of a manifest's characters cannot be written."""
        if self.refusals:
            raise ValueError(f"over 1 % unwritable: {self.refusals[0]}")


class CharacterData(DataModule):
    """Data whose texts a model writes or reads character by character. A subclass names the `shape` of its manifests and how a
    text is spelled.

    Args:
        characters: as `Alphabet` takes them.
    """

    shape: str

    def __init__(self, *, characters: str | None, **loaders: Any) -> None:
        super().__init__(**loaders)
        self.alphabet = Alphabet(characters)

    def spell(self, text: str) -> str:
        """A manifest's text as it is learnt."""
        return clean_transcript(text)

    def learn_characters(self, rows: list[dict[str, Any]], *, train: bool) -> None:
        """Where characters=data asks for it, from the training manifest, of which these rows may be."""
        if self.alphabet.unknown and self.train_path is not None and not train:
            rows = read_manifest(self.train_path, shape=self.shape, split=self.splits.get("train"), root=self.root)
        self.alphabet.learn(self.spell(row["text"]) for row in rows)

    @property
    def characters(self) -> str | None:
        """What the model is built with; None: the standard ones."""
        return self.alphabet.characters

    def read(self, task: str) -> None:
        """As the base has it. Raises ValueError where over 1 % of the characters to train with, or to choose the best model
        by, cannot be written; what is tested may hold anything, and is said."""
        if task == "fit":
            self.samples("train")
            self.samples("val")
            self.alphabet.refuse()
        super().read(task)
