"""This project's special pieces in a SentencePiece model of someone else.

All code here knows the special tokens by their ids (muomni/special_tokens.py), so the pieces of a model are reordered: <unk>,
<s>, </s> and <pad>, under whatever names the model has them, and our control pieces come first, then its own in their old order.
Existing pieces are moved, missing ones are added. Text is cut into the same pieces as before, with other ids.

The file is a protocol buffer. Of it, only the list of pieces is read and written; all other bytes stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sentencepiece

from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK

_UNKNOWN_KIND, _CONTROL_KIND = 2, 3  # values of a piece's field 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(slots=True)
class _Piece:
    name: str
    raw: bytes  # its message


def read_model(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """Raises ValueError for what is no SentencePiece model."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"not a SentencePiece model: {' '.join(str(error).split())}") from error
    if not processor.vocab_size():
        raise ValueError("not a SentencePiece model: it holds no pieces")
    return processor


def misplaced(processor: sentencepiece.SentencePieceProcessor) -> str | None:
    """The first special piece that is not at its id, in a few words; None where all are."""
    found = {UNK: processor.unk_id(), BOS: processor.bos_id(), EOS: processor.eos_id(), PAD: processor.pad_id()}
    for index, name in enumerate(PIECES):
        if index >= processor.vocab_size():
            return f"it has no {name}"
        here = processor.IdToPiece(index)
        named = found[index] == index if index in found else here == name
        if not named or (index != UNK and not processor.IsControl(index)):
            return f"piece {index} is {here!r} where {name} is needed"
    return None


def with_special_pieces(model: bytes) -> tuple[bytes, list[str]]:
    """A model with all special pieces at their ids, and the names of those that were added; itself where they are there.

    Raises ValueError for what is no SentencePiece model.
    """
    processor = read_model(model)
    if misplaced(processor) is None:
        return model, []
    pieces, rest = _split(model)
    found = {UNK: processor.unk_id(), BOS: processor.bos_id(), EOS: processor.eos_id(), PAD: processor.pad_id()}
    names = {piece.name: index for index, piece in enumerate(pieces)}
    head: list[bytes] = []
    taken: set[int] = set()
    added: list[str] = []
    for index, name in enumerate(PIECES):
        kind = _UNKNOWN_KIND if index == UNK else _CONTROL_KIND
        place = found.get(index, -1)
        place = names.get(name, -1) if place < 0 else place
        if place < 0:
            added.append(name)
            head.append(_field(1, name.encode()) + _number_field(3, kind))
        else:
            taken.add(place)
            head.append(_of_kind(pieces[place].raw, kind))
    messages = head + [piece.raw for index, piece in enumerate(pieces) if index not in taken]
    whole = b"".join(_field(1, message) for message in messages) + rest
    problem = misplaced(read_model(whole))
    if problem is not None:
        raise ValueError(f"our special pieces cannot be added: {problem}")
    return whole, added


def without_pieces(model: bytes, start: int, stop: int) -> bytes:
    """A model without the pieces start..stop - 1."""
    pieces, rest = _split(model)
    return b"".join(_field(1, piece.raw) for piece in [*pieces[:start], *pieces[stop:]]) + rest


def _split(model: bytes) -> tuple[list[_Piece], bytes]:
    """The pieces of a model, and the bytes of all that is not one."""
    pieces, rest = [], []
    for number, content, raw in _fields(model):
        if number != 1:
            rest.append(raw)
            continue
        name = next((inner for field, inner, _ in _fields(content) if field == 1), b"")
        pieces.append(_Piece(name.decode(errors="replace"), content))
    return pieces, b"".join(rest)


def _of_kind(piece: bytes, kind: int) -> bytes:
    """A piece's message with its kind changed."""
    return b"".join(raw for number, _, raw in _fields(piece) if number != 3) + _number_field(3, kind)


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(number, content, all bytes) of the fields of a message that SentencePiece could read."""
    place = 0
    while place < len(message):
        start = place
        tag, place = _number(message, place)
        wire = tag & 7
        if wire == _BYTES:
            length, place = _number(message, place)
        elif wire == _VARINT:
            length = _number(message, place)[1] - place
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError("not a SentencePiece model: it holds fields of an unknown kind")
        yield tag >> 3, message[place : place + length], message[start : place + length]
        place += length


def _number(message: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, the last without the eighth, and the place after it."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _number_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)
