"""Documents of the Thinker's pretraining among the instructions, so that it does not forget them (experience replay,
Rolnick et al. 2019, arXiv:1811.11682)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.lazy_rows import LazyRows
from datamodules.manifests import keep_rows, log_skipped, read_manifest
from datamodules.mixture import select_evenly, shown_shares
from datamodules.text import Documents
from muomni.frontends.tokenizer import Tokenizer

MOST = 8  # times as many rows of a large manifest as are drawn
REPLAY = "replay"  # the task of such a row


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
    named = [
        {"id": f"replay-{sample.sample_id}", "task": REPLAY, "prompt": "", "answer": "", "meta": {}} for sample in drawn
    ]
    return named, [sample.sequence() for sample in drawn]
