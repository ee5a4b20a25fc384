"""A text that is still being written -> phrases that can be put into words before their sentence ends.

What a number, a sign or an abbreviation is called depends on its neighbours ("in 1984", "5 km", "Dr. No"), so that a sentence is
cut only between plain words: two before the cut and one after it, small letters and nothing else. No rule of the text normaliser
reaches over three of them: the words of the phrases, joined, are those of the sentence (a property test compares them).
A cut depends on the text up to the space after that third word: phrases are the same however the text is cut into pieces.
"""

import re
from dataclasses import dataclass, field

from muomni.inference.tts.sentences import SentenceSplitter

_WORD = re.compile(r"\S+")
_PLAIN = re.compile(r"[a-z]+(?:'[a-z]+)?")
SHORTEST = 8  # characters of a phrase: each is another pass of the Talker over what it has said


@dataclass(frozen=True, slots=True)
class Phrase:
    """text: as written. ends: True if the sentence ends with it."""

    text: str
    ends: bool


@dataclass(slots=True)
class PhraseSplitter:
    """Pieces of a text in, its phrases out. whole: sentences are not cut."""

    whole: bool
    sentences: SentenceSplitter = field(default_factory=SentenceSplitter)
    taken: int = 0  # characters of the sentence that were phrases already

    def push(self, piece: str) -> list[Phrase]:
        """Append a piece; returns the phrases that it completes."""
        phrases: list[Phrase] = []
        for sentence in self.sentences.push_raw(piece):
            phrases += self._end(sentence)
        if not self.whole:
            phrases += self._begin(self.sentences.rest)
        return phrases

    def close(self) -> list[Phrase]:
        """What is left at the end of the text."""
        rest, self.sentences.rest = self.sentences.rest, ""
        return self._end(rest)

    def _begin(self, text: str) -> list[Phrase]:
        """The phrases of a sentence's beginning."""
        phrases = []
        words = [(match.start(), match.end()) for match in _WORD.finditer(text)]
        plain = [_PLAIN.fullmatch(text, begin, end) is not None for begin, end in words]
        for index in range(2, len(words)):
            start, end = words[index]
            if all(plain[index - 2 : index + 1]) and end < len(text) and start - self.taken >= SHORTEST:
                phrases.append(Phrase(text[self.taken : start], ends=False))
                self.taken = start
        return phrases

    def _end(self, sentence: str) -> list[Phrase]:
        """The phrases of a whole sentence that were not taken yet; the last one ends it."""
        phrases = [] if self.whole else self._begin(sentence)
        rest, self.taken = sentence[self.taken :], 0
        return [*phrases, Phrase(rest, ends=True)] if rest.strip() or phrases else phrases
