"""Extend a vocabulary by our special tokens: <pad> <user> <assistant> <system> <image> <audio>.

micro-omni's tokenizers have <unk>, <s> and </s> only, at 0, 1 and 2 like ours, followed by ordinary pieces, where our code
expects special tokens (`muomni.special_tokens`), image slots among them. So six control pieces are inserted, in the tokenizer
and as rows of embedding and head. The new rows are the mean of the others: a new token's logit is then the mean of all logits,
never the highest. Both steps are exactly reversible.

Legend: V pieces, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from muomni.frontends.special_pieces import misplaced, read_model, with_special_pieces, without_pieces
from muomni.interop.micro_omni.module_options import options_built
from muomni.models.thinker import Thinker
from muomni.special_tokens import PAD, PIECES

ADDED = PIECES[PAD:]


def has_special_pieces(model: bytes) -> bool:
    """True if a SentencePiece model has our special tokens at their ids. Raises ValueError for an invalid model."""
    return misplaced(read_model(model)) is None


def widened_tokenizer(model: bytes) -> bytes:
    """A SentencePiece model with our special pieces after its first three. Raises ValueError if these are not <unk>, <s> and
    </s>, or if it has some of ours already."""
    processor = read_model(model)
    first = (processor.unk_id(), processor.bos_id(), processor.eos_id())
    whole, added = with_special_pieces(model)
    if first != tuple(range(PAD)) or tuple(added) != ADDED:
        raise ValueError(
            f"a tokenizer with <unk>, <s>, </s> at {first} and {' '.join(ADDED)}, if at all, at other ids than ours"
        )
    return whole


def narrowed_tokenizer(model: bytes) -> bytes:
    """The inverse of `widened_tokenizer`."""
    assert has_special_pieces(model), "a widened tokenizer has our pieces after its first three"
    return without_pieces(model, PAD, len(PIECES))


def widened(thinker: Thinker) -> Thinker:
    """A copy of the Thinker with rows for our special tokens in embedding and head."""
    return _with_vocabulary(thinker, thinker.vocab_size + len(ADDED), _insert)


def narrowed(thinker: Thinker) -> Thinker:
    """The inverse of `widened`."""
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
