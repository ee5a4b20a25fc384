"""Text <-> ids by SentencePiece BPE.

`encode` puts a space before the text, so pieces of separately encoded segments are those of running text:
encode(a) + encode(b) reads "a b". Nothing is normalised away: decode(encode(text)) == text. Written-out special
tokens ("<user>") are plain text; only this project's own code can place their ids.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from muomni.checkpoints.atomic_write import atomic_write
from muomni.frontends.special_pieces import misplaced, read_model
from muomni.frontends.text_form import form_named
from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK

MAX_LINE_BYTES = 1 << 20
META = "\u2581"  # what SentencePiece writes for a space
RESERVED = "\u2585"  # a line that holds it is skipped in SentencePiece's training
#: Characters that Unicode gives to nobody: one of them stands for META on its way through SentencePiece.
STAND_INS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


class Tokenizer:
    """A trained SentencePiece model. Picklable; holds no open file."""

    def __init__(self, model: bytes, *, form: str | None = None) -> None:
        """`model`: the content of a SentencePiece model file. form: of the texts that are encoded (text_form.py); None: as they
        are. Raises ValueError where special tokens have other ids."""
        self._model, self.form = model, form
        self.in_form = form_named(form)
        self._processor = read_model(model)
        self._continuations: dict[int, tuple[str, int] | None] = {}
        problem = misplaced(self._processor)
        if problem is not None:
            raise ValueError(
                f"a tokenizer without muomni's special pieces: {problem}; a training that is given it by "
                "datamodule.tokenizer=FILE puts them in"
            )

    @classmethod
    def train(
        cls, lines: Iterable[str], vocab_size: int, path: str | Path, *, byte_fallback: bool = True, exact: bool = True
    ) -> "Tokenizer":
        """Learn a BPE vocabulary of `vocab_size` pieces from lines of text and save it at `path` (atomically).

        exact: False takes fewer pieces where the text has no more. Digits are always single pieces. Raises ValueError
        where the text is empty or the vocabulary does not fit it.
        """
        tokenizer = cls(
            _trained(
                _sentences(lines), vocab_size, model_type="bpe", byte_fallback=byte_fallback,
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
        model = _trained(iter([characters]), size, model_type="char", byte_fallback=False, character_coverage=1.0)
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
        """Read a model file. Raises FileNotFoundError or ValueError, naming it."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such tokenizer: {path}")
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def with_form(self, form: str | None) -> "Tokenizer":
        """The same pieces, for texts in that form."""
        return self if form == self.form else Tokenizer(self._model, form=form)

    def save(self, path: str | Path) -> None:
        """Write the model file atomically."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(self._model)

    @property
    def vocab_size(self) -> int:
        """Pieces, special tokens included."""
        return int(self._processor.vocab_size())

    @property
    def has_bytes(self) -> bool:
        """Whether every text has ids other than UNK: what is no piece is written in bytes."""
        return any(self._processor.IsByte(index) for index in range(self.vocab_size))

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Text -> ids, on demand between BOS and EOS. Raises ValueError for text that came from bytes that are no UTF-8."""
        try:
            text.encode()
        except UnicodeEncodeError as error:  # SentencePiece would not say what is wrong
            raise ValueError(
                f"the text is no valid UTF-8 at character {error.start + 1} ({text[error.start]!a}): give it as UTF-8"
            ) from error
        text = self.in_form(text)
        ids = self._encode_meta(text) if META in text else self._processor.EncodeAsIds(text)
        return [BOS] * bos + ids + [EOS] * eos

    def _encode_meta(self, text: str) -> list[int]:
        """A text that holds META, which is no space: its three bytes, or unknown to a model without pieces for bytes."""
        free = [c for c in STAND_INS if c not in text and self._processor.PieceToId(c) == UNK]
        if not free:
            raise ValueError("the text holds U+2581 and every one of U+FDD0..U+FDEF: leave one out")
        ids: list[int] = self._processor.EncodeAsIds(text.replace(META, free[0]))
        stand_in, meta = (
            "".join(chr(self._processor.PieceToId(f"<0x{byte:02X}>")) for byte in character.encode())
            for character in (free[0], META)
        )
        if chr(UNK) in meta:
            return ids
        return list(map(ord, "".join(map(chr, ids)).replace(stand_in, meta)))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; special tokens are left out. Bytes that are no UTF-8 become U+FFFD."""
        return str(self._processor.DecodeIds([index for index in map(int, ids) if index >= len(PIECES)]))

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
        return bool(self._processor.IsByte(int(index)))

    def piece(self, index: int) -> str:
        """The piece of an id, such as `▁the`, `<0x0A>` or `<user>`."""
        return str(self._processor.IdToPiece(int(index)))

    def fingerprint(self) -> str:
        """sha256 of the model file, in hexadecimal."""
        return hashlib.sha256(self._model).hexdigest()

    def __getstate__(self) -> tuple[bytes, str | None]:
        return self._model, self.form

    def __setstate__(self, state: tuple[bytes, str | None]) -> None:
        self.__init__(state[0], form=state[1])  # type: ignore[misc]


def _trained(sentences: Iterator[str], vocab_size: int, **options: Any) -> bytes:
    """The content of a SentencePiece model with our special pieces. Raises ValueError."""
    writer = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=sentences, model_writer=writer, vocab_size=vocab_size,
            hard_vocab_limit=False,  # part of the bytes: one value for both, so that equal text gives equal bytes
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            unk_id=UNK, bos_id=BOS, eos_id=EOS, pad_id=PAD,
            unk_piece=PIECES[UNK], bos_piece=PIECES[BOS],
            eos_piece=PIECES[EOS], pad_piece=PIECES[PAD],
            control_symbols=list(PIECES[PAD + 1 :]),
            max_sentence_length=MAX_LINE_BYTES, minloglevel=3, **options,
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
        raise ValueError(f"cannot train a tokenizer of vocab_size={vocab_size}: {reason.strip()}") from error
    return writer.getvalue()


def _sentences(lines: Iterable[str]) -> Iterator[str]:
    """Lines as SentencePiece learns from all of: none longer than it takes, cut at spaces where there are some."""
    most = MAX_LINE_BYTES // 4  # characters
    for line in lines:
        text, start = line.replace(RESERVED, " "), 0
        while len(text) - start > most:
            space = text.rfind(" ", start + 1, start + most)
            end = start + most if space < 0 else space
            yield text[start:end]
            start = end
        yield text[start:]
