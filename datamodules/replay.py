"""Documents of the Thinker's pretraining among the instructions, so that it does not forget them (experience replay,
Rolnick et al. 2019, arXiv:1811.11682)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.manifests import keep_rows, log_skipped, read_manifest
from datamodules.mixture import select_evenly, shown_shares
from datamodules.text import encode_document, windows
from muomni.frontends.tokenizer import Tokenizer

REPLAY = "replay"  # the task of such a row


def replay_rows(
    path: Path, tokenizer: Tokenizer, *, count: int, kinds: Mapping[str, float], max_length: int, seed: int
) -> tuple[list[dict[str, Any]], list[tuple[Tensor, Tensor]]]:
    """`count` documents of a text manifest (all, where it has fewer), drawn without replacement: (rows, [(ids, targets)]).

    kinds: kind of document -> fraction of its documents to draw from; others, and those that name no kind, wholly.
    Each stands alone and every token is learnt, as in pretraining; one of more than `max_length` tokens counts as its
    windows. How many are not drawn is said.
    Raises ValueError for a row that is a question instead of a document, and where `kinds` leaves no document.
    """
    documents = read_manifest(path, shape="text", split=None)
    for document in documents:
        if not isinstance(document.get("text"), str):
            raise ValueError(f"{path}: {document['id']} is a question; data.replay= takes documents (text) alone")
    wanted = select_evenly([str(document.get("kind", "text")) for document in documents], kinds, default=1.0)
    documents = keep_rows(documents, wanted, what=str(path), why=f"datamodule.replay_kinds takes {shown_shares(kinds)}")
    if not documents:
        raise ValueError(f"{path}: datamodule.replay_kinds={dict(kinds)} leaves no document to replay")
    long = _long(documents, tokenizer, max_length=max_length)
    places = [(index, part) for index in range(len(documents)) for part in range(len(long.get(index, (None,))))]
    drawn = np.random.default_rng(seed).permutation(len(places))[:count]
    why = "replay_share of the rows needs no more (datamodule.replay_share)"
    what = f"{path}, long documents in pieces" if long else str(path)
    log_skipped(len(places) - len(drawn), len(places), what=what, why=why)
    rows, sequences = [], []
    for index, part in (places[place] for place in drawn):
        document = documents[index]
        whole = index not in long
        piece = encode_document(tokenizer, document["text"]) if whole else long[index][part]
        name = f"replay-{document['id']}" if whole else f"replay-{document['id']} [{part + 1}/{len(long[index])}]"
        ids = torch.from_numpy(piece.astype(np.int64))
        rows.append({"id": name, "task": REPLAY, "prompt": "", "answer": "", "meta": {}})
        sequences.append((ids[:-1], ids[1:]))
    return rows, sequences


def _long(documents: list[dict[str, Any]], tokenizer: Tokenizer, *, max_length: int) -> dict[int, list[np.ndarray]]:
    """Index -> windows of the documents that need more than one. Those of fewer bytes than tokens are not looked at."""
    found = {}
    for index, document in enumerate(documents):
        if len(document["text"].encode(errors="replace")) >= max_length - 1:
            pieces = windows(encode_document(tokenizer, document["text"]), max_length=max_length)
            if len(pieces) > 1:
                found[index] = pieces
    return found
