"""What the Talker is given of a text, step by step, while the text is being written.

Without look-ahead a step is a whole sentence. With a look-ahead of n characters an utterance grows: each step gives it the words
that are known by then, and the Talker speaks up to the character that has n more after it. So the first sound needs the first few
words and not the first sentence, and what is said depends on the text alone, not on when its pieces arrive.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.errors import InvalidOption
from muomni.inference.tts.phrases import Phrase, PhraseSplitter
from muomni.inference.tts.sentences import split_long
from muomni.inference.tts.speaker import Speaker

MAX_LOOK_AHEAD = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """text: of the utterance so far, in words. begins: it is a new utterance. limit: the most frames of the whole utterance;
    None: more of its text will follow."""

    text: str
    begins: bool
    limit: int | None


def check_look_ahead(look_ahead: int | None) -> None:
    """Raises InvalidOption for a look-ahead that is none."""
    whole = isinstance(look_ahead, int) and not isinstance(look_ahead, bool)
    if look_ahead is not None and not (whole and 0 <= look_ahead <= MAX_LOOK_AHEAD):
        raise InvalidOption(
            f"look_ahead={look_ahead!r}: a number of characters, 0 to {MAX_LOOK_AHEAD}, or None for whole sentences",
            param="look_ahead",
        )


class SpeechPlan:
    """Pieces of a text in, steps out. Phrases are put into words when their turn comes: a long text takes seconds.

    Args:
        look_ahead: characters; None: whole sentences.
    """

    def __init__(self, speaker: Speaker, tokenizer: Tokenizer | None, *, look_ahead: int | None) -> None:
        check_look_ahead(look_ahead)
        self.speaker, self.tokenizer, self.look_ahead = speaker, tokenizer, look_ahead
        self.splitter = PhraseSplitter(whole=look_ahead is None)
        self.phrases: deque[Phrase] = deque()
        self.closed = False  # no more text will come
        self.left_out: dict[str, None] = {}  # characters without a spoken form
        self._steps: Iterator[Step | None] | None = None  # of a phrase
        self._next: Step | None = None
        self._written = self._said = ""  # of the utterance that continues

    def feed(self, text: str) -> None:
        """Append to the text."""
        self.phrases.extend(self.splitter.push(text))

    def close(self) -> None:
        """The text is complete."""
        self.phrases.extend(self.splitter.close())
        self.closed = True

    @property
    def has_text(self) -> bool:
        """True if there may be a step."""
        return self._next is not None or self._steps is not None or bool(self.phrases)

    def look(self) -> bool:
        """Put more of the text into words, a little at a time; True if there is a step."""
        if self._next is None and self.has_text:
            if self._steps is None:
                phrase = self.phrases.popleft()
                self._steps = self._whole(phrase) if self.look_ahead is None else self._grown(phrase)
            try:
                self._next = next(self._steps)
            except StopIteration:
                self._steps = None
        return self._next is not None

    def take(self) -> Step:
        """The step that `look` found."""
        step, self._next = self._next, None
        assert step is not None
        return step

    def _whole(self, phrase: Phrase) -> Iterator[Step | None]:
        """A sentence, or parts of one that is too long."""
        for sentence, left_out in self.speaker.sentences(phrase.text.strip(), self.tokenizer):
            self.left_out |= dict.fromkeys(left_out)
            yield None if sentence is None else Step(sentence.text, begins=True, limit=sentence.limit)

    def _grown(self, phrase: Phrase) -> Iterator[Step | None]:
        """The utterance with one phrase more; what would be too long for the Talker ends before it."""
        if self._said and not self.speaker.fits(self._written + phrase.text, self.tokenizer):
            yield self._step(begins=False, ends=True)
        fits = partial(self.speaker.fits, tokenizer=self.tokenizer)
        pieces = [phrase.text] if self._written else list(split_long(phrase.text, fits))
        for number, piece in enumerate(pieces, 1):
            words = self.speaker.in_words(piece)
            self.left_out |= dict.fromkeys(words.left_out)
            begins = not self._said
            self._written, self._said = self._written + piece, f"{self._said} {words.text}".strip()
            ends = phrase.ends or number < len(pieces)
            yield self._step(begins=begins, ends=ends) if self._said and (words.text or ends) else None
        if phrase.ends:
            self._written = self._said = ""

    def _step(self, *, begins: bool, ends: bool) -> Step:
        limit = self.speaker.limit_of(self._written.strip(), self._said, self.tokenizer) if ends else None
        step = Step(self._said, begins=begins, limit=limit)
        if ends:
            self._written = self._said = ""
        return step
