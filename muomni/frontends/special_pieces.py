"""This project's special pieces in a SentencePiece model of someone else.

All code here knows the special tokens by their ids (muomni/special_tokens.py), so the pieces of a model are reordered: <unk>,
<s>, </s> and <pad>, under whatever names the model has them, and our control pieces come first, then its own in their old order.
Existing pieces are moved, missing ones are added. Text is cut into the same pieces as before, with other ids.
"""

from typing import Any

import sentencepiece

from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK


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
    found = _standard_ids(processor)
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
    proto = parse_model(model)
    pieces = list(proto.pieces)
    ids = {piece.piece: index for index, piece in enumerate(pieces)}
    ids |= {PIECES[index]: old for index, old in _standard_ids(processor).items() if old >= 0}
    added = [name for name in PIECES if name not in ids]
    special = [pieces[ids[name]] if name in ids else proto.SentencePiece(piece=name) for name in PIECES]
    for index, piece in enumerate(special):
        piece.type = piece.UNKNOWN if index == UNK else piece.CONTROL
    moved = {ids[name] for name in PIECES if name in ids}
    del proto.pieces[:]
    proto.pieces.extend(special + [piece for index, piece in enumerate(pieces) if index not in moved])
    whole = proto.SerializeToString()
    problem = misplaced(read_model(whole))
    if problem is not None:
        raise ValueError(f"our special pieces cannot be added: {problem}")
    return whole, added


def without_pieces(model: bytes, start: int, stop: int) -> bytes:
    """A model without the pieces start..stop - 1."""
    proto = parse_model(model)
    del proto.pieces[start:stop]
    return proto.SerializeToString()


def _standard_ids(processor: sentencepiece.SentencePieceProcessor) -> dict[int, int]:
    """Our ids -> the model's own, of the pieces that it may name as it likes; -1 where it has none."""
    return {UNK: processor.unk_id(), BOS: processor.bos_id(), EOS: processor.eos_id(), PAD: processor.pad_id()}


def parse_model(model: bytes) -> Any:
    """The content of a SentencePiece model file as its protocol buffer."""
    from sentencepiece import sentencepiece_model_pb2  # a tenth of a second, for those who change a model

    return sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]
