"""Whose row is whose: the ids of a pretrained model's vocabulary <-> ours.

All code here knows the special tokens by fixed ids at the front of the vocabulary (muomni/special_tokens.py): models compare ids
with them, samplers mask them as a range, collators pad with them. So a vocabulary of others is permuted, not patched:

    ours     0..8 our special tokens    9.. all others of theirs, in their order
    theirs   0..rows-1, as the checkpoint's embedding has them

Their own <unk>, bos, eos and pad tokens are our UNK, BOS, EOS and PAD: the row moves. One token of theirs may have several
roles (GPT-2's <|endoftext|> is bos and eos): EOS gets the row, the others a copy. What they lack is new: its row starts at
the mean of theirs, its logit thus at the mean of all logits, never the highest. `back(into(rows))` is bit-exact.

A sampler never picks our special tokens but EOS, so their bos, pad and unk are never generated either: a comparison with their
own generation suppresses those three (`suppress_tokens`).

Legend: R rows of theirs, V pieces of ours, `...` the rest of a tensor's shape.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK, USER

#: In this order they get the row of a token that has several roles.
ROLES = {"eos": EOS, "bos": BOS, "pad": PAD, "unk": UNK} | {
    PIECES[index].strip("<>"): index for index in range(USER, len(PIECES))
}
NEW = -1


class VocabularyMap:
    """Attributes:
    rows, size: R and V.
    sources: for each id of ours the row of theirs that it starts from; NEW for the mean of all.
    places: for each id of theirs ours; the inverse of `sources` where a row has several ids.
    added: our special ids that have no row of theirs of their own, which `back` leaves out.
    """

    def __init__(self, rows: int, roles: Mapping[str, int]) -> None:
        """rows: of their embedding, which may be more than their tokenizer has tokens. roles: "bos", "eos", "pad", "unk", and
        "user" to "audio" where they have these -> their id; what is missing is new, but for bos, which copies eos. Raises
        ValueError for ids outside of the rows."""
        for role, index in roles.items():
            if role not in ROLES or not 0 <= index < rows:
                raise ValueError(f"special token {role!r} has id {index}, outside of the {rows} rows of the embedding")
        self.rows = rows
        special = [NEW] * len(PIECES)
        owned: dict[int, int] = {}
        for role, ours in ROLES.items():
            if role in roles:
                special[ours] = roles[role]
                owned.setdefault(roles[role], ours)
        if special[BOS] == NEW:
            special[BOS] = special[EOS]
        self.sources = special + [index for index in range(rows) if index not in owned]
        self.places = [0] * rows
        for ours in range(len(PIECES), len(self.sources)):
            self.places[self.sources[ours]] = ours
        for theirs, ours in owned.items():
            self.places[theirs] = ours
        self.added = tuple(ours for ours in range(len(PIECES)) if ours not in owned.values())

    @classmethod
    def identity(cls, size: int) -> "VocabularyMap":
        """Of a vocabulary of ours."""
        same = cls.__new__(cls)
        same.rows, same.sources, same.places, same.added = size, list(range(size)), list(range(size)), ()
        return same

    def extended(self, added: Sequence[int], *, at: int) -> "VocabularyMap":
        """Of a vocabulary of theirs that has these ids of ours, too, from its row `at` on: in place of unused rows, or after the
        last."""
        larger = VocabularyMap.identity(0)
        larger.rows = max(self.rows, at + len(added))
        larger.sources, larger.places = list(self.sources), self.places + [0] * (larger.rows - self.rows)
        for row, ours in enumerate(added, start=at):
            larger.sources[ours], larger.places[row] = row, ours
        larger.added = tuple(ours for ours in self.added if ours not in added)
        return larger

    @property
    def size(self) -> int:
        """V."""
        return len(self.sources)

    def into(self, rows: Tensor) -> Tensor:
        """Their rows (R, ...) of an embedding, a head or its bias -> ours (V, ...), of the same dtype. Raises ValueError for
        another number of rows."""
        if len(rows) != self.rows:
            raise ValueError(f"the tokenizer is for {self.rows} rows, the embedding has {len(rows)}")
        sources = torch.tensor(self.sources, device=rows.device)
        ours = rows.index_select(0, sources.clamp(min=0))
        if NEW in self.sources:
            ours[sources == NEW] = _mean(rows)
        return ours

    def back(self, rows: Tensor) -> Tensor:
        """Our rows (V, ...) -> theirs (R, ...): `added` are left out. Raises ValueError for another number of rows."""
        if len(rows) != self.size:
            raise ValueError(f"the tokenizer has {self.size} pieces, the embedding {len(rows)} rows")
        return rows.index_select(0, torch.tensor(self.places, device=rows.device))

    def logits(self, logits: Tensor) -> Tensor:
        """Our logits (..., V) -> theirs (..., R)."""
        return logits.index_select(-1, torch.tensor(self.places, device=logits.device))


def _mean(rows: Tensor) -> Tensor:
    """(...) in float64, summed in slices: a whole copy of a large embedding is not made."""
    total = sum(
        (part.double().sum(dim=0) for part in rows.split(1 << 14)), torch.zeros_like(rows[0], dtype=torch.float64)
    )
    return (total / len(rows)).to(rows.dtype)
