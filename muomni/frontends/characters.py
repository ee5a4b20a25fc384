"""The characters that the recogniser writes and the Talker reads: 98 symbols, and the blank of CTC at 0.

blank 0; printable ASCII 0x20-0x7E = 1..95; newline 96; tab 97; anything else 98.
"""

from collections.abc import Iterable
from itertools import pairwise

from muomni.special_tokens import PIECES

BLANK = 0
NEWLINE = 96
TAB = 97
UNKNOWN = 98
NUM_LOGITS = 99
NUM_SYMBOLS = len(PIECES) + NUM_LOGITS - 1  # of a language model over characters: special tokens, then 98 characters
UNKNOWN_TEXT = "\ufffd"

_TO_ID = {chr(code): code - 0x1F for code in range(0x20, 0x7F)} | {"\n": NEWLINE, "\t": TAB}
_TO_TEXT = {index: character for character, index in _TO_ID.items()} | {UNKNOWN: UNKNOWN_TEXT}


def encode_characters(text: str) -> list[int]:
    """Text -> ids in 1..98, one a character."""
    return [_TO_ID.get(character, UNKNOWN) for character in text]


def decode_characters(ids: Iterable[int]) -> str:
    """Ids in 1..98 -> text; blanks are left out. Raises ValueError for an id outside 0..98."""
    kept = [int(index) for index in ids if int(index) != BLANK]
    for index in kept:
        if index not in _TO_TEXT:
            raise ValueError(f"characters: the id {index} is outside 0..{UNKNOWN}")
    return "".join(_TO_TEXT[index] for index in kept)


def encode_symbols(text: str) -> list[int]:
    """Text -> ids behind those of the special tokens, one a character: what a language model over characters reads."""
    return [len(PIECES) - 1 + index for index in encode_characters(text)]


def decode_symbols(ids: Iterable[int]) -> str:
    """Such ids -> text; special tokens are left out."""
    return decode_characters(index - len(PIECES) + 1 for index in ids if index >= len(PIECES))


def collapse_ctc(path: Iterable[int]) -> list[int]:
    """A frame-wise CTC path -> ids: repeats are merged, then blanks left out (Graves et al. 2006)."""
    collapsed: list[int] = []
    previous = BLANK
    for index in path:
        index = int(index)
        if index != previous and index != BLANK:
            collapsed.append(index)
        previous = index
    return collapsed


def ctc_frames_needed(ids: list[int]) -> int:
    """The fewest frames that can carry the transcript: one a character, and a blank between equal neighbours."""
    return len(ids) + sum(first == second for first, second in pairwise(ids))
