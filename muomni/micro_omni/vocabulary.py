"""Room for our special tokens in a vocabulary that has none: <pad> <user> <assistant> <system> <image> <audio>.

micro-omni's tokenizers know <unk>, <s> and </s> alone, at 0, 1 and 2 as ours; behind them stand ordinary pieces, where our
code expects special tokens (`muomni.special_tokens`), picture slots among them. So six control pieces go in between, in the
tokenizer and as rows of embedding and head. The new rows are the mean of the others: the new tokens' logit is then the mean of
all logits, and never the highest. Both steps can be taken back, bit for bit.

Legend: V pieces, D width.
"""

from collections.abc import Callable, Iterator

import sentencepiece
import torch
from torch import Tensor

from muomni.micro_omni.parts import options_built
from muomni.models.thinker import Thinker
from muomni.special_tokens import PAD, PIECES

ADDED = PIECES[PAD:]
_PIECES_FIELD = b"\x0a"  # field 1 of SentencePiece's ModelProto: a piece, as a message with its length before it
_CONTROL = b"\x18\x03"  # field 3 of a piece: its kind


def has_special_pieces(model: bytes) -> bool:
    """Whether a SentencePiece model holds our special tokens at their ids. Raises ValueError for what is no such model."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"not a SentencePiece model: {error}") from error
    ids = range(PAD, min(len(PIECES), processor.vocab_size()))
    return tuple(processor.IdToPiece(index) for index in ids) == ADDED


def widened_tokenizer(model: bytes) -> bytes:
    """A SentencePiece model with our special pieces behind its first three."""
    first = _pieces_end(model, PAD)
    return model[:first] + _control_pieces() + model[first:]


def narrowed_tokenizer(model: bytes) -> bytes:
    """What `widened_tokenizer` was given."""
    first, added = _pieces_end(model, PAD), _control_pieces()
    assert model[first : first + len(added)] == added, "a widened tokenizer has our pieces behind its first three"
    return model[:first] + model[first + len(added) :]


def _control_pieces() -> bytes:
    messages = [b"\x0a" + bytes([len(piece)]) + piece.encode() + _CONTROL for piece in ADDED]
    return b"".join(_PIECES_FIELD + bytes([len(message)]) + message for message in messages)


def _pieces_end(model: bytes, count: int) -> int:
    """Where the first `count` pieces end. Pieces open the file: SentencePiece writes fields in the order of their numbers."""
    ends = list(_piece_ends(model, count))
    if len(ends) < count:
        raise ValueError(f"not a SentencePiece model that begins with {count} pieces")
    return ends[-1]


def _piece_ends(model: bytes, count: int) -> Iterator[int]:
    place = 0
    for _ in range(count):
        if model[place : place + 1] != _PIECES_FIELD:
            return
        place, length, shift = place + 1, 0, 0
        while True:  # a number in groups of seven bits, the last without the eighth
            byte = model[place]
            length |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        place += length
        yield place


def widened(thinker: Thinker) -> Thinker:
    """The Thinker with rows for our special tokens in embedding and head."""
    return _with_vocabulary(thinker, thinker.vocab_size + len(ADDED), _insert)


def narrowed(thinker: Thinker) -> Thinker:
    """The Thinker without the rows that `widened` put in."""
    return _with_vocabulary(thinker, thinker.vocab_size - len(ADDED), _remove)


def _with_vocabulary(thinker: Thinker, vocab_size: int, change: Callable[[Tensor], Tensor]) -> Thinker:
    options = options_built(thinker) | {"vocab_size": vocab_size}
    state = thinker.state_dict()
    for key in ("embedding.weight", "head.weight"):
        state[key] = change(state[key])
    other = Thinker(**options)
    other.load_state_dict(state)
    return other.eval()


def _insert(rows: Tensor) -> Tensor:
    new = rows.mean(dim=0, keepdim=True).expand(len(ADDED), -1)
    return torch.cat((rows[:PAD], new, rows[PAD:]))


def _remove(rows: Tensor) -> Tensor:
    return torch.cat((rows[:PAD], rows[len(PIECES) :]))
