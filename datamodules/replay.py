"""Documents of the Thinker's pretraining among the instructions, so that it does not forget them (experience replay,
Rolnick et al. 2019, arXiv:1811.11682)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.manifests import read_manifest
from datamodules.mixture import evenly
from datamodules.text import encode_document
from muomni.frontends.tokenizer import Tokenizer

REPLAY = "replay"  # the task of such a row


def replayed(
    path: Path, tokenizer: Tokenizer, *, count: int, kinds: Mapping[str, float], max_length: int, seed: int
) -> tuple[list[dict[str, Any]], list[tuple[Tensor, Tensor]]]:
    """`count` documents of a text manifest (all, where it has fewer), drawn without replacement: (rows, [(ids, targets)]).

    kinds: kind of document -> fraction of its documents to draw from; others, and those that name no kind, wholly.
    Each stands alone and every token is learnt, as in pretraining; what exceeds `max_length` tokens is cut off.
    Raises ValueError for a row that is a question instead of a document, and where `kinds` leaves no document.
    """
    documents = read_manifest(path, shape="text", split=None)
    for document in documents:
        if not isinstance(document.get("text"), str):
            raise ValueError(f"{path}: {document['id']} is a question; data.replay= takes documents (text) alone")
    wanted = evenly([str(document.get("kind", "text")) for document in documents], kinds, default=1.0)
    documents = [document for document, kept in zip(documents, wanted, strict=True) if kept]
    if not documents:
        raise ValueError(f"{path}: datamodule.replay_kinds={dict(kinds)} leaves no document to replay")
    rows, sequences = [], []
    for index in np.random.default_rng(seed).permutation(len(documents))[:count]:
        document = documents[index]
        ids = torch.from_numpy(encode_document(tokenizer, document["text"])[: max_length + 1].astype(np.int64))
        rows.append({"id": f"replay-{document['id']}", "task": REPLAY, "prompt": "", "answer": "", "meta": {}})
        sequences.append((ids[:-1], ids[1:]))
    return rows, sequences
