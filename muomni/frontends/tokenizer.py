"""Text <-> ids: a SentencePiece model of ours, or a pretrained model's tokenizer.json, both as one `Tokenizer`.

Nothing is normalised away by ours: decode(encode(text)) == text. Written-out special tokens ("<user>", "<|im_end|>") are plain
text; only this project's own code can place their ids, which are those of muomni/special_tokens.py in every vocabulary.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from muomni.checkpoints.atomic_write import atomic_write
from muomni.frontends.chat_form import NATIVE, ChatForm
from muomni.frontends.hf_tokenizer import HFTokenizerModel, is_json, is_packed
from muomni.frontends.sentence_piece import SentencePieceModel, sentences, trained
from muomni.frontends.text_form import form_named
from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.special_tokens import BOS, EOS, PIECES


class TokenizerModel(Protocol):
    """What a format of tokenizers must do. Ids are ours: `PIECES`, then the others.

    file_name: of its file in an export. special_ids: of all special tokens by their written form. chat: the turns of a
    conversation as the model knows them; None: as ours does. begins_with_bos: whether texts begin with BOS. puts_space: whether
    `encode` puts a space before a text. drops_first_space: whether `decode` leaves it out again.
    """

    file_name: str
    vocab_size: int
    special_ids: Mapping[str, int]
    chat: ChatForm | None
    begins_with_bos: bool
    puts_space: bool
    drops_first_space: bool

    @property
    def vocabulary(self) -> VocabularyMap:
        """The rows of the checkpoint that it belongs to."""

    @property
    def has_bytes(self) -> bool:
        """Whether it spells every text."""

    def encode(self, text: str) -> list[int]:
        """A text of valid UTF-8, without special tokens."""

    def encode_segments(self, segments: Sequence[str | int], *, follows_text: bool) -> list[int]:
        """Text between special tokens, which are ids. follows_text: the first segment continues text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Special tokens left out, U+FFFD for bytes that are no UTF-8."""

    def is_byte(self, index: int) -> bool:
        """Whether a piece is of a single byte, such as `<0x0A>`."""

    def piece(self, index: int) -> str:
        """As its file writes it."""

    def token_bytes(self, index: int) -> bytes:
        """What a piece adds within a text; nothing for special tokens."""


def export_name(path: Path) -> str:
    """The name that a tokenizer's file has in an export."""
    with path.open("rb") as file:
        return (HFTokenizerModel if is_packed(file.read(64)) else SentencePieceModel).file_name


class Tokenizer:
    """A tokenizer of any format. Picklable; holds no open file."""

    def __init__(self, content: bytes, *, form: str | None = None) -> None:
        """content: of a SentencePiece model file, or of an export's tokenizer.json (hf_tokenizer.pack). form: of the texts that
        are encoded (text_form.py); None: as they are. Raises ValueError where special tokens have other ids."""
        self.content, self.form = content, form
        self.in_form = form_named(form)
        if is_json(content) and not is_packed(content):
            raise ValueError(
                "a tokenizer.json of another program: datamodule.tokenizer=FILE of a training of stage=thinker takes it"
            )
        self.model: TokenizerModel = HFTokenizerModel(content) if is_packed(content) else SentencePieceModel(content)
        self.vocab_size = self.model.vocab_size  # pieces, special tokens included
        self._special = frozenset(range(len(PIECES))) | frozenset(self.model.special_ids.values())
        #: How the turns of a conversation are written.
        begin = next(name for name, index in self.model.special_ids.items() if index == BOS)
        self.chat = self.model.chat or replace(NATIVE, begin=begin)
        self._continuations: dict[int, tuple[str, int] | None] = {}
        self._split: dict[str, list[str | int]] = {}

    @classmethod
    def train(
        cls, lines: Iterable[str], vocab_size: int, path: str | Path, *, byte_fallback: bool = True, exact: bool = True
    ) -> "Tokenizer":
        """Learn a SentencePiece BPE vocabulary of `vocab_size` pieces from lines of text and save it at `path` (atomically).

        exact: False takes fewer pieces where the text has no more. Digits are always single pieces. Raises ValueError
        where the text is empty or the vocabulary does not fit it.
        """
        tokenizer = cls(
            trained(
                sentences(lines), vocab_size, model_type="bpe", byte_fallback=byte_fallback,
                character_coverage=1.0 if not byte_fallback else 0.9995,
            )
        )  # fmt: skip
        if exact:
            tokenizer.expect_size(vocab_size)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path)
        return tokenizer

    @classmethod
    def of_characters(cls, characters: str, path: str | Path) -> "Tokenizer":
        """A piece for each of some characters, all others unknown; saved at `path`. A line end is a character, too."""
        size = len(PIECES) + len(set(characters) | {" "})
        model = trained(iter([characters]), size, model_type="char", byte_fallback=False, character_coverage=1.0)
        tokenizer = cls(model)
        tokenizer.expect_size(size)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path)
        return tokenizer

    def expect_size(self, vocab_size: int) -> None:
        """Raise ValueError unless there are `vocab_size` pieces."""
        if self.vocab_size != vocab_size:
            raise ValueError(
                f"vocab_size={vocab_size}: the tokenizer's text has pieces for {self.vocab_size} only; "
                f"give vocab_size={self.vocab_size} or less, or more text"
            )

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a file of ours, or an export's. Raises FileNotFoundError or ValueError, naming it."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such tokenizer: {path}")
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def with_form(self, form: str | None) -> "Tokenizer":
        """The same pieces, for texts in that form."""
        return self if form == self.form else Tokenizer(self.content, form=form)

    def save(self, path: str | Path) -> None:
        """Write its file atomically."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(self.content)

    @property
    def vocabulary(self) -> VocabularyMap:
        """The rows of the checkpoint that the tokenizer belongs to <-> ours; the same for a tokenizer of ours."""
        return self.model.vocabulary

    @property
    def has_bytes(self) -> bool:
        """Whether every text has ids other than UNK: what is no piece is written in bytes."""
        return self.model.has_bytes

    @property
    def special_ids(self) -> Mapping[str, int]:
        """Written form -> id of all special tokens, which `decode` leaves out."""
        return self.model.special_ids

    @property
    def puts_space(self) -> bool:
        """Whether `encode` puts a space before a text."""
        return self.model.puts_space

    @property
    def file_name(self) -> str:
        """Of its file in an export."""
        return self.model.file_name

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Text -> ids, on demand between BOS (if the model's texts begin with it) and EOS. Raises ValueError as `formed`."""
        ids = self.model.encode(self.formed(text))
        return [BOS] * (bos and (self.model.begins_with_bos or not ids)) + ids + [EOS] * eos

    def encode_next(self, text: str) -> list[int]:
        """A text that follows another one after a space: encode(a) + encode_next(b) reads "a b"."""
        return self.encode(text if self.puts_space else f" {text}")

    def encode_segments(self, segments: Sequence[str | int], *, follows_text: bool = False) -> list[int]:
        """Ids of special tokens, and texts around them as they are (`formed`); neighbouring texts are one. follows_text: what
        comes before the segments is text."""
        joined: list[str | int] = []
        for each in segments:
            if isinstance(each, str) and joined and isinstance(joined[-1], str):
                joined[-1] += each
            else:
                joined.append(each)
        return self.model.encode_segments(joined, follows_text=follows_text)

    def split_special(self, text: str) -> list[str | int]:
        """A string in which special tokens are written out -> their ids and the texts between. Never for a user's text."""
        if text not in self._split:
            longest_first = sorted(self.special_ids, key=len, reverse=True)
            found = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
            self._split[text] = [self.special_ids.get(each, each) for each in found if each]
        return self._split[text]

    def formed(self, text: str) -> str:
        """A text in the form that the model was trained on. Raises ValueError for text that came from bytes that are no UTF-8."""
        try:
            text.encode()
        except UnicodeEncodeError as error:  # the libraries would not say what is wrong
            raise ValueError(
                f"the text is no valid UTF-8 at character {error.start + 1} ({text[error.start]!a}): give it as UTF-8"
            ) from error
        return self.in_form(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; special tokens are left out. Bytes that are no UTF-8 become U+FFFD."""
        return self.model.decode([int(index) for index in ids])

    def continuation(self, index: int) -> tuple[str, int] | None:
        """What a piece appends to any text, and the length of its text alone, which may lack a space before. None for those whose
        text depends on their neighbours: bytes, special tokens, blanks, U+FFFD. Computed once for each piece."""
        if index not in self._continuations:
            alone, twice = self.decode([index]), self.decode([index, index])
            is_plain = bool(alone) and not self.is_byte(index) and "\ufffd" not in alone
            self._continuations[index] = (twice[len(alone) :], len(alone)) if is_plain else None
        return self._continuations[index]

    def is_byte(self, index: int) -> bool:
        """True for the piece of a single byte, such as `<0x0A>`."""
        return self.model.is_byte(int(index))

    def is_special(self, index: int) -> bool:
        """True for a special token, which `decode` leaves out."""
        return int(index) in self._special

    def piece(self, index: int) -> str:
        """The piece of an id, such as `▁the`, `<0x0A>` or `<user>`."""
        return self.model.piece(int(index))

    def token_bytes(self, index: int, *, first: bool = False) -> bytes:
        """The UTF-8 bytes that a piece adds to a text, at its beginning (`first`) or within. Nothing for special tokens."""
        spelt = self.model.token_bytes(int(index))
        return spelt.removeprefix(b" ") if first and self.model.drops_first_space else spelt

    def fingerprint(self) -> str:
        """sha256 of its file, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    def __getstate__(self) -> tuple[bytes, str | None]:
        return self.content, self.form

    def __setstate__(self, state: tuple[bytes, str | None]) -> None:
        self.__init__(state[0], form=state[1])  # type: ignore[misc]
