"""Room for our special tokens in a vocabulary that has none: <pad> <user> <assistant> <system> <image> <audio>.

micro-omni's tokenizers know <unk>, <s> and </s> alone, at 0, 1 and 2 as ours; behind them stand ordinary pieces, where our
code expects special tokens (`muomni.special_tokens`), picture slots among them. So six control pieces go in between, in the
tokenizer and as rows of embedding and head. The new rows are the mean of the others: the new tokens' logit is then the mean of
all logits, and never the highest. Both steps can be taken back, bit for bit.

Legend: V pieces, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from muomni.frontends.special_pieces import misplaced, read_model, with_special_pieces, without_pieces
from muomni.interop.micro_omni.parts import options_built
from muomni.models.thinker import Thinker
from muomni.special_tokens import PAD, PIECES

ADDED = PIECES[PAD:]


def has_special_pieces(model: bytes) -> bool:
    """Whether a SentencePiece model holds our special tokens at their ids. Raises ValueError for what is no such model."""
    return misplaced(read_model(model)) is None


def widened_tokenizer(model: bytes) -> bytes:
    """A SentencePiece model with our special pieces behind its first three. Raises ValueError where these are not <unk>, <s>
    and </s>, or where it has some of ours already."""
    processor = read_model(model)
    first = (processor.unk_id(), processor.bos_id(), processor.eos_id())
    whole, added = with_special_pieces(model)
    if first != tuple(range(PAD)) or tuple(added) != ADDED:
        raise ValueError(
            f"a tokenizer with <unk>, <s>, </s> at {first} and {' '.join(ADDED)}, if at all, at other ids than ours"
        )
    return whole


def narrowed_tokenizer(model: bytes) -> bytes:
    """What `widened_tokenizer` was given."""
    assert has_special_pieces(model), "a widened tokenizer has our pieces behind its first three"
    return without_pieces(model, PAD, len(PIECES))


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
