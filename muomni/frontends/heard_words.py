"""What an audio encoder's CTC head reads, in the pieces of the Thinker's tokenizer (`AudioProjector`, `words`).

Legend: B clips, T frames, S symbols.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from muomni.frontends.char_vocab import read_ctc


@dataclass(frozen=True)
class WordReader:
    """encode: a text -> ids, as of a question that is typed. characters: the encoder's alphabet; None: the standard one."""

    encode: Callable[[str], list[int]]
    characters: str | None = None

    def __call__(self, logits: Tensor, lengths: Tensor) -> list[list[int]]:
        """logits (B, T, S) with their lengths (B) -> ids of each clip; none where nothing is heard."""
        return [self.encode(text) if text else [] for text in read_ctc(logits, lengths, self.characters)]
