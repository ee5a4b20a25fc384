"""The CTC head of a fine-tuned wav2vec 2.0 or HuBERT (`...ForCTC`), in the order of our characters: the blank first, then its own
letters, then one for all others, which it never writes.

vocab.json says which output is which letter; `|` is the space, `<pad>` the blank. Letters that are all upper-case are written in
lower case, as our transcripts are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni.interop.hf.folder import read_json

NEVER = -1e4  # the bias of what the head has no output for
MOST_LETTERS = 4096


@dataclass(frozen=True, slots=True)
class CtcHead:
    """outputs: of the head, in the order of our symbols: the blank's, then those of `characters`."""

    outputs: list[int]
    characters: str

    @property
    def num_symbols(self) -> int:
        """With the one for all others."""
        return len(self.outputs) + 1

    def shapes(self, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Of its tensors in the folder."""
        size, dim = config.get("vocab_size", 32), config.get("hidden_size", 768)
        return {"lm_head.weight": (size, dim), "lm_head.bias": (size,)}

    def ours(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """Weights (V, D) and biases (V) of the folder -> those of our head."""
        rows = torch.tensor(self.outputs)
        others = weight.new_zeros(1, weight.shape[1])
        return {
            "head.weight": torch.cat([weight[rows], others]), "head.bias": torch.cat([bias[rows], bias.new_full((1,), NEVER)]),
        }  # fmt: skip


def read_ctc_head(folder: Path, config: Mapping[str, Any]) -> CtcHead | None:
    """The head of a folder of `...ForCTC`, None of another. Raises ValueError naming the file."""
    architectures = config.get("architectures") or []
    if not any(str(name).endswith("ForCTC") for name in architectures):
        return None
    path = folder / "vocab.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no vocab.json here, the letters of its CTC head: download it too")
    vocabulary, size = read_json(path), config.get("vocab_size", 32)
    blank = config.get("pad_token_id") or 0
    letters: dict[str, int] = {}
    for piece, output in vocabulary.items():
        if not isinstance(output, int) or not 0 <= output < size:
            raise ValueError(
                f"{path}: {piece!r:.40} is output {output!r:.20}, of {size}: not the vocabulary of these weights"
            )
        letter = " " if piece == "|" else piece
        if len(letter) == 1 and output != blank:
            letters[letter] = output
    if not letters or len(letters) > MOST_LETTERS:
        raise ValueError(f"{path}: {len(letters)} letters: a vocabulary of characters is needed")
    if all(letter == letter.upper() for letter in letters) and len({letter.lower() for letter in letters}) == len(
        letters
    ):
        letters = {letter.lower(): output for letter, output in letters.items()}
    ordered = sorted(letters, key=lambda letter: letters[letter])
    return CtcHead([blank, *(letters[letter] for letter in ordered)], "".join(ordered))
