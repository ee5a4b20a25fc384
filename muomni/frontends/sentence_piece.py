"""SentencePiece as the model of a tokenizer (tokenizer.py): our own ones, and those of others with our special pieces in them.

A space is put before every text, so that the pieces of separately encoded segments are those of running text. U+2581, by which
SentencePiece writes a space, is kept as the character that it is.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sentencepiece

from muomni.frontends.chat_form import ChatForm
from muomni.frontends.special_pieces import misplaced, read_model
from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK

MAX_LINE_BYTES = 1 << 20
META = "\u2581"  # what SentencePiece writes for a space
RESERVED = "\u2585"  # a line that holds it is skipped in SentencePiece's training
#: Characters that Unicode gives to nobody: one of them stands for META on its way through SentencePiece.
STAND_INS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


class SentencePieceModel:
    """See tokenizer.TokenizerModel."""

    file_name = "tokenizer.model"
    puts_space = drops_first_space = begins_with_bos = True
    chat: ChatForm | None = None

    def __init__(self, content: bytes) -> None:
        """content: of a SentencePiece model file. Raises ValueError where special tokens have other ids."""
        self.processor = read_model(content)
        problem = misplaced(self.processor)
        if problem is not None:
            raise ValueError(
                f"a tokenizer without muomni's special pieces: {problem}; a training that is given it by "
                "datamodule.tokenizer=FILE puts them in"
            )
        self.vocab_size = int(self.processor.vocab_size())
        self.special_ids: Mapping[str, int] = {piece: index for index, piece in enumerate(PIECES)}

    @property
    def vocabulary(self) -> VocabularyMap:
        return VocabularyMap.identity(self.vocab_size)

    @property
    def has_bytes(self) -> bool:
        return any(self.processor.IsByte(index) for index in range(self.vocab_size))

    def encode(self, text: str) -> list[int]:
        return self._encode_meta(text) if META in text else self.processor.EncodeAsIds(text)

    def encode_segments(self, segments: Sequence[str | int], *, follows_text: bool) -> list[int]:
        return [i for each in segments for i in ([each] if isinstance(each, int) else self.encode(each))]

    def _encode_meta(self, text: str) -> list[int]:
        """A text that holds META, which is no space: its three bytes, or unknown to a model without pieces for bytes."""
        free = [c for c in STAND_INS if c not in text and self.processor.PieceToId(c) == UNK]
        if not free:
            raise ValueError("the text holds U+2581 and every one of U+FDD0..U+FDEF: leave one out")
        ids: list[int] = self.processor.EncodeAsIds(text.replace(META, free[0]))
        stand_in, meta = (
            "".join(chr(self.processor.PieceToId(f"<0x{byte:02X}>")) for byte in character.encode())
            for character in (free[0], META)
        )
        if chr(UNK) in meta:
            return ids
        return list(map(ord, "".join(map(chr, ids)).replace(stand_in, meta)))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.processor.DecodeIds([index for index in ids if index >= len(PIECES)]))

    def is_byte(self, index: int) -> bool:
        return bool(self.processor.IsByte(index))

    def piece(self, index: int) -> str:
        return str(self.processor.IdToPiece(index))

    def token_bytes(self, index: int) -> bytes:
        if index < len(PIECES):
            return b""
        piece = self.piece(index)
        return bytes([int(piece[3:-1], 16)]) if self.is_byte(index) else piece.replace(META, " ").encode()


def trained(sentences: Iterator[str], vocab_size: int, **options: Any) -> bytes:
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
        if least := re.search(r"required_chars\. \d+ vs (\d+)", reason):
            what = f"bytes, special pieces and the characters of the text alone are {least[1]} pieces"
            raise ValueError(f"vocab_size={vocab_size}: {what}: give vocab_size={least[1]} or more") from error
        raise ValueError(f"cannot train a tokenizer of vocab_size={vocab_size}: {reason.strip()}") from error
    return writer.getvalue()


def sentences(lines: Iterable[str]) -> Iterator[str]:
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
