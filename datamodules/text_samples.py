"""Text samples: a document, a question with its answer, or a row of several documents, as tokens.

Legend: T tokens, L tokens of a document.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.manifests import Row
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import EOS, IGNORE


@dataclass(slots=True)
class TextSample:
    """ids (T + 1): inputs and, shifted by one, targets; the first `prompt` of the targets are not predicted."""

    ids: np.ndarray
    prompt: int
    document_type: str
    floor: float
    sample_id: str

    def sequence(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (T) int64 each."""
        tokens = torch.from_numpy(self.ids.astype(np.int64))
        targets = tokens[1:].clone()
        targets[: self.prompt] = IGNORE
        return tokens[:-1], targets


def floor_of(row: Row) -> float:
    """Lower bound of a document's loss in nats, from its "logprob" under the generator; NaN where that is unknown."""
    known = row.get("logprob")
    return -float(known) if isinstance(known, int | float) and not isinstance(known, bool) else math.nan


def encode_row(tokenizer: Tokenizer, row: dict[str, Any]) -> tuple[np.ndarray, int]:
    """A manifest's row -> `BOS text EOS` as int32, and how many of its targets belong to a question's prompt."""
    if "prompt" in row:
        first = tokenizer.encode(row["prompt"], bos=True)
        return np.array([*first, *tokenizer.encode_next(row["answer"]), EOS], dtype=np.int32), len(first) - 1
    return np.array(tokenizer.encode(row["text"], bos=True, eos=True), dtype=np.int32), 0


def windows(ids: np.ndarray, *, max_length: int) -> list[np.ndarray]:
    """ids (L) -> pieces of equal length, or nearly so, of at most `max_length` + 1 tokens: each begins with the token that
    the one before it ends with, so that every token but the first is a target exactly once."""
    targets = len(ids) - 1
    count = max(1, -(-targets // max_length))
    ends = [targets * number // count for number in range(count + 1)]
    return [ids[start : end + 1] for start, end in itertools.pairwise(ends)]
