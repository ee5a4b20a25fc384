"""Characters <-> ids of recognizer and Talker; 0 is the blank of CTC.

Unless a model has characters of its own, 98 symbols: printable ASCII 0x20-0x7E = 1..95; newline 96; tab 97; anything else 98.
With n of its own (`characters`): 1..n in their order, anything else n + 1.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from torch import Tensor

from muomni.nn.conv import frame_mask
from muomni.special_tokens import PIECES

BLANK = 0
NEWLINE = 96
TAB = 97
UNKNOWN = 98
NUM_LOGITS = 99
NUM_SYMBOLS = len(PIECES) + NUM_LOGITS - 1  # of a language model over characters: special tokens, then 98 characters
UNKNOWN_TEXT = "\ufffd"

STANDARD = "".join(map(chr, range(0x20, 0x7F))) + "\n\t"


@dataclass(frozen=True, slots=True)
class CharTable:
    """character -> id, id -> character, and the id of all others."""

    to_id: Mapping[str, int]
    to_text: Mapping[int, str]
    unknown: int


@functools.lru_cache(maxsize=16)
def char_table(characters: str | None) -> CharTable:
    """The table of a model's own characters; None: of the standard ones."""
    to_id = {character: index for index, character in enumerate(characters or STANDARD, start=1)}
    unknown = len(to_id) + 1
    return CharTable(to_id, {index: c for c, index in to_id.items()} | {unknown: UNKNOWN_TEXT}, unknown)


def learn_characters(texts: Iterable[str]) -> str:
    """Every character of some texts, in the order of Unicode."""
    return "".join(sorted(set().union(*map(set, texts))))


def encode_characters(text: str, characters: str | None = None) -> list[int]:
    """Text -> ids from 1, one a character. characters: the model's own."""
    table = char_table(characters)
    return [table.to_id.get(character, table.unknown) for character in text]


def decode_characters(ids: Iterable[int], characters: str | None = None) -> str:
    """Ids -> text; blanks are left out. An id beyond the model's own characters is unknown text; raises ValueError for one
    that the standard table does not have."""
    table = char_table(characters)
    kept = [index for index in map(int, ids) if index != BLANK]
    for index in kept:
        if index < 0 or (characters is None and index not in table.to_text):
            raise ValueError(f"characters: the id {index} is outside 0..{table.unknown}")
    return "".join(table.to_text.get(index, UNKNOWN_TEXT) for index in kept)


def encode_symbols(text: str, characters: str | None = None) -> list[int]:
    """Text -> ids after those of the special tokens, one a character: the input of a language model over characters."""
    return [len(PIECES) - 1 + index for index in encode_characters(text, characters)]


def decode_symbols(ids: Iterable[int], characters: str | None = None) -> str:
    """Such ids -> text; special tokens are left out."""
    return decode_characters((index - len(PIECES) + 1 for index in ids if index >= len(PIECES)), characters)


def collapse_ctc(path: Iterable[int]) -> list[int]:
    """A frame-wise CTC path -> ids: repeats are merged, then blanks left out (Graves et al. 2006)."""
    return [index for index, _ in groupby(map(int, path)) if index != BLANK]


def read_ctc(logits: Tensor, lengths: Tensor, characters: str | None = None) -> list[str]:
    """logits (B, T, S), lengths (B) of valid frames -> the most likely symbol of each frame, collapsed: one stripped text a clip.
    characters: the encoder's alphabet. Waits for a GPU once."""
    valid = frame_mask(lengths, logits.shape[1])
    paths = logits.argmax(-1).masked_fill(~valid, BLANK).tolist()  # so that the lengths need not come to the host
    return [decode_characters(collapse_ctc(path), characters).strip() for path in paths]


def ctc_frames_needed(ids: list[int]) -> int:
    """The fewest frames that can carry the transcript: one a character, and a blank between equal neighbours."""
    return len(ids) + sum(first == second for first, second in pairwise(ids))
