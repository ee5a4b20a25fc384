"""Documents of the Thinker's pretraining among the instructions, so that it does not forget them (experience replay,
Rolnick et al. 2019, arXiv:1811.11682)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.manifests import read_manifest
from datamodules.text import PackedRows, encode_document
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import IGNORE

REPLAY = "replay"  # the task of such a row


def replayed(
    path: Path, tokenizer: Tokenizer, *, count: int, length: int, seed: int
) -> tuple[list[dict[str, Any]], list[tuple[Tensor, Tensor]]]:
    """At most `count` rows of `length` tokens from the documents of a text manifest, behind each other in shuffled order:
    (rows, [(ids, targets)]). Every token is learnt, as in pretraining."""
    documents = [encode_document(tokenizer, row["text"]) for row in read_manifest(path, shape="text", split=None)]
    packed = PackedRows(documents, length=length, seed=seed)
    rows, sequences = [], []
    for index in range(min(count, len(packed))):
        ids = torch.from_numpy(packed.item(index, 0).ids.astype(np.int64))
        targets = torch.cat((ids[1:], torch.tensor([IGNORE])))
        rows.append({"id": f"replay-{index}", "task": REPLAY, "prompt": "", "answer": "", "meta": {}})
        sequences.append((ids, targets))
    return rows, sequences
