"""Long texts are spoken sentence by sentence: a Talker is trained on single sentences, and has a frame limit.

A boundary is decided by the text up to the first letter after it, so sentences are the same however a text that is still being
written is cut into pieces. Where in doubt (abbreviations, initials) there is none: a longer sentence is the smaller fault.
"""

import re
from collections.abc import Callable

from muomni.frontends.text_normalizer import ABBREVIATIONS, ABBREVIATIONS_BEFORE_NUMBERS

#: Marks that end a sentence, with closing quotes and brackets, and the space after them; or the end of a line.
_END = re.compile(
    r"""(?P<mark>[.!?…]+)["'”’»)\]]*\s+(?=\S)|[ \t]*\n\s*(?=\S)|(?P<wide>[。！？]+)[」』”’]*\s*(?=[^\s。！？」』”’])"""
)
_CLAUSE = re.compile(r"[,;:]\s+|\s+[-–—]+\s+|[—–]")
_WORD = re.compile(r"\s+")


class SentenceSplitter:
    """Pieces of a text in, its whole sentences out, stripped; none is empty."""

    def __init__(self) -> None:
        self.rest = ""

    def push(self, piece: str) -> list[str]:
        """Append a piece; returns the sentences that it completes."""
        self.rest += piece
        sentences, begin = [], 0
        for match in _END.finditer(self.rest):
            if _ends_sentence(self.rest[begin : match.start()], match, self.rest[match.end()]):
                sentences.append(self.rest[begin : match.end()])
                begin = match.end()
        self.rest = self.rest[begin:]
        return [sentence.strip() for sentence in sentences if sentence.strip()]

    def close(self) -> list[str]:
        """What is left at the end of the text."""
        rest, self.rest = self.rest.strip(), ""
        return [rest] if rest else []


def split_sentences(text: str) -> list[str]:
    """The sentences of a whole text."""
    splitter = SentenceSplitter()
    return [*splitter.push(text), *splitter.close()]


def _ends_sentence(before: str, match: re.Match[str], after: str) -> bool:
    """Whether a sentence ends at a mark; before: the sentence up to it. after: the first character of what follows."""
    mark = match["mark"]
    if mark is None or mark != ".":  # a line, a wide mark, ! and ?; an ellipsis only before a capital
        return not (mark and mark[0] in ".…" and after.islower())
    words = before.split()
    word = words[-1].lstrip("\"'“‘(«[") if words else ""
    if word.isdigit():
        return len(words) > 1  # not the number of an item of a list
    if word.lower() in ABBREVIATIONS_BEFORE_NUMBERS:
        return not after.isdigit()
    return not ("." in word or len(word) == 1 or word.lower() in ABBREVIATIONS)


def split_long(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text, or halves of it that fit, each split at the comma nearest to its middle, or else between two words, or else
    inside a word."""
    text = text.strip()
    if len(text) < 2 or fits(text):
        return [text] if text else []
    middle = len(text) / 2
    for boundary in (_CLAUSE, _WORD):
        cuts = [match.end() for match in boundary.finditer(text)]
        cuts = [cut for cut in cuts if len(text) / 5 <= cut <= len(text) * 4 / 5]
        if cuts:
            cut = min(cuts, key=lambda cut: abs(cut - middle))
            break
    else:
        cut = int(middle)
    return [*split_long(text[:cut], fits), *split_long(text[cut:], fits)]
