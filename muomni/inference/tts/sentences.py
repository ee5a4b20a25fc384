"""Long texts are spoken sentence by sentence: a Talker is trained on single sentences, and has a frame limit.

A boundary is decided by the text up to the first letter after it, so sentences are the same however a text that is still being
written is cut into pieces. Where in doubt (abbreviations, initials) there is none: a longer sentence is the smaller fault.
"""

import re
from collections.abc import Callable, Iterator

from muomni.frontends.text_normalizer import ABBREVIATIONS, ABBREVIATIONS_BEFORE_NUMBERS

#: Marks that end a sentence, with closing quotes and brackets, and the space after them; or space with the end of a line.
#: Each run of marks or space is tried once, from its beginning and without stepping back: else a text of nothing else takes
#: a time that grows with the square of its length.
_END = re.compile(
    r"""(?<![.!?…])(?P<mark>[.!?…]++)["'”’»)\]]*+\s++(?=\S)|(?<!\s)(?=[^\S\n]*+\n)\s++(?=\S)|"""
    r"""(?<![。！？])(?P<wide>[。！？]++)[」』”’]*+\s*+(?=[^\s。！？」』”’])"""
)
_CLAUSE = re.compile(r"[,;:]\s++|(?<!\s)\s++[-–—]++\s++|[—–]")
_WORD = re.compile(r"\s++")


class SentenceSplitter:
    """Pieces of a text in, its whole sentences out, stripped; none is empty."""

    def __init__(self) -> None:
        self.rest = ""

    def push(self, piece: str) -> list[str]:
        """Append a piece; returns the sentences that it completes."""
        return [sentence.strip() for sentence in self.push_raw(piece) if sentence.strip()]

    def push_raw(self, piece: str) -> list[str]:
        """The same with the space around them: joined, and with `rest`, they are all pieces so far."""
        self.rest += piece
        sentences, begin = [], 0
        for match in _END.finditer(self.rest):
            if _ends_sentence(self.rest, begin, match):
                sentences.append(self.rest[begin : match.end()])
                begin = match.end()
        self.rest = self.rest[begin:]
        return sentences

    def close(self) -> list[str]:
        """What is left at the end of the text."""
        rest, self.rest = self.rest.strip(), ""
        return [rest] if rest else []


def split_sentences(text: str) -> list[str]:
    """The sentences of a whole text."""
    splitter = SentenceSplitter()
    return [*splitter.push(text), *splitter.close()]


def _ends_sentence(text: str, begin: int, match: re.Match[str]) -> bool:
    """Whether the sentence of a text from `begin` on ends at a mark."""
    mark, after = match["mark"], text[match.end()]
    if mark is None or mark != ".":  # a line, a wide mark, ! and ?; an ellipsis only before a capital
        return not (mark and mark[0] in ".…" and after.islower())
    start, end = _last_word(text, begin, match.start())
    word = text[start:end].lstrip("\"'“‘(«[")
    if word.isdigit():
        return not (text[begin:start].isspace() or begin == start)  # not the number of an item of a list
    if word.lower() in ABBREVIATIONS_BEFORE_NUMBERS:
        return not after.isdigit()
    return not ("." in word or len(word) == 1 or word.lower() in ABBREVIATIONS)


def _last_word(text: str, begin: int, end: int) -> tuple[int, int]:
    """Where the last word between two positions begins and ends. Reads no more than that word."""
    while end > begin and text[end - 1].isspace():
        end -= 1
    start = end
    while start > begin and not text[start - 1].isspace():
        start -= 1
    return start, end


def split_long(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """The text, or halves of it that fit, each split at the comma nearest to its middle, or else between two words, or else
    inside a word."""
    text = text.strip()
    if len(text) < 2 or fits(text):
        yield from [text] if text else []
        return
    middle = len(text) / 2
    for boundary in (_CLAUSE, _WORD):
        cuts = [match.end() for match in boundary.finditer(text)]
        cuts = [cut for cut in cuts if len(text) / 5 <= cut <= len(text) * 4 / 5]
        if cuts:
            cut = min(cuts, key=lambda cut: abs(cut - middle))
            break
    else:
        cut = int(middle)
    yield from split_long(text[:cut], fits)
    yield from split_long(text[cut:], fits)
