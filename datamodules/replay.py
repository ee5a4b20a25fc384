"""Documents of the Thinker's pretraining among the instructions, so that it does not forget them (experience replay,
Rolnick et al. 2019, arXiv:1811.11682)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, keep_rows, log_skipped, read_manifest
from datamodules.mixture import select_evenly, select_evenly_of, shown_shares
from datamodules.text import Documents
from datamodules.text_samples import TextSample
from datamodules.token_file import LargeDocuments, token_file
from muomni.frontends.tokenizer import Tokenizer

MOST = 8  # times as many rows of a large manifest as are drawn
REPLAY = "replay"  # the task of such a row
#: The row of a document, and its (ids, targets).
Replayed = tuple[Row, tuple[Tensor, Tensor]]


def replay_rows(
    path: Path,
    tokenizer: Tokenizer,
    *,
    count: int,
    shares: Mapping[str, float],
    max_length: int,
    seed: int,
    cache: str | None = None,
) -> tuple[list[dict[str, Any]], list[tuple[Tensor, Tensor]]]:
    """`count` documents of a text manifest (all, where it has fewer), drawn without replacement: (rows, [(ids, targets)]).

    shares: type of document ("kind") -> fraction of its documents to draw from; others, and those that name none, wholly.
    Each stands alone and every token is learnt, as in pretraining; one of more than `max_length` tokens counts as its
    windows. How many are not drawn is said.
    Raises ValueError for a row that is a question instead of a document, and where `shares` leaves no document.
    """
    rows = read_manifest(path, shape="text", cache=cache)
    if isinstance(rows, LazyRows):  # more than can be encoded for the few that are drawn
        few = np.linspace(0, len(rows) - 1, min(MOST * count, len(rows))).astype(np.int32)
        why = f"{MOST} times as many as are drawn are enough to draw from"
        log_skipped(len(rows) - len(few), len(rows), what=str(path), why=why)
        rows = list(rows.choose(few))
    for row in rows:
        if not isinstance(row.get("text"), str):
            raise ValueError(f"{path}: {row['id']} is a question; data.replay= takes documents (text) alone")
    wanted = select_evenly([str(row.get("kind", "text")) for row in rows], shares, default=1.0)
    rows = keep_rows(rows, wanted, what=str(path), why=f"datamodule.replay_kinds takes {shown_shares(shares)}")
    if not len(rows):
        raise ValueError(f"{path}: datamodule.replay_kinds={dict(shares)} leaves no document to replay")
    samples = Documents(rows, tokenizer, max_length=max_length).samples
    drawn = [samples[index] for index in np.random.default_rng(seed).permutation(len(samples))[:count]]
    why = "replay_share of the rows needs no more (datamodule.replay_share)"
    what = f"{path}, long documents in pieces" if len(samples) > len(rows) else str(path)
    log_skipped(len(samples) - len(drawn), len(samples), what=what, why=why)
    return [_named(sample) for sample in drawn], [sample.sequence() for sample in drawn]


def _named(sample: TextSample) -> Row:
    """The row of a document."""
    return {"id": f"replay-{sample.sample_id}", "task": REPLAY, "prompt": "", "answer": "", "meta": {}}


class ReplayedDocuments(Sequence[Replayed]):
    """Documents that stay on the disk."""

    def __init__(self, documents: LargeDocuments) -> None:
        self.documents = documents

    def __len__(self) -> int:
        return len(self.documents)

    @overload
    def __getitem__(self, index: int) -> Replayed: ...
    @overload
    def __getitem__(self, index: slice) -> list[Replayed]: ...
    def __getitem__(self, index: int | slice) -> Replayed | list[Replayed]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        sample = self.documents.item(index, -1)
        return _named(sample), sample.sequence()


def large_replay(
    path: Path, tokenizer: Tokenizer, *, shares: Mapping[str, float], **options: Any
) -> tuple[Sequence[Replayed], np.ndarray]:
    """As `replay_rows`, for conversations that stay on the disk: (row, (ids, targets)) of each document, and its tokens. Those of
    a large manifest stay on the disk, too."""
    rows = read_manifest(path, shape="text", cache=options["cache"])
    if not isinstance(rows, LazyRows):
        named, sequences = replay_rows(path, tokenizer, shares=shares, **options)
        lengths = np.array([len(ids) for ids, _ in sequences], dtype=np.int32)
        return list(zip(named, sequences, strict=True)), lengths
    questions = rows.column("is a question", lambda row: not isinstance(row.get("text"), str), dtype=bool)
    if questions.any():
        first = rows[int(questions.argmax())]["id"]
        raise ValueError(f"{path}: {first} is a question; data.replay= takes documents (text) alone")
    names = rows.summary("kinds", lambda each: sorted({str(row.get("kind", "text")) for row in each}))
    numbers = {name: number for number, name in enumerate(names)}
    codes = rows.column(
        "kind number", lambda row: numbers.get(str(row.get("kind", "text")), -1), dtype=np.int32, key=names
    )
    wanted = select_evenly_of(codes, names, shares, default=1.0)
    rows = rows.choose(wanted)
    if not len(rows):
        raise ValueError(f"{path}: datamodule.replay_kinds={dict(shares)} leaves no document to replay")
    few = np.sort(np.random.default_rng(options["seed"]).permutation(len(rows))[: options["count"]])
    why = "replay_share of the rows needs no more (datamodule.replay_share, replay_kinds)"
    log_skipped(len(wanted) - len(few), len(wanted), what=str(path), why=why)
    rows = rows.choose(few)
    written = token_file(rows, tokenizer, what=str(path))
    documents = LargeDocuments(rows, written, max_length=options["max_length"], train=True, what=str(path))
    return ReplayedDocuments(documents), documents.lengths - 1
