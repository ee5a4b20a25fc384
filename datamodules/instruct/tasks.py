"""Questions about a row of labelled data, with the answers that its labels give."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.char_vocab import clean_transcript
from datamodules.manifests import Row
from datamodules.row_label import class_of, label

MOST_ANSWERS = 200  # different words, speakers or classes of a data set: beyond, they are no closed set to choose from


@dataclass(frozen=True, slots=True)
class Question:
    """task: a key of WORDINGS; answer: the true one. meta: what metrics read of the row. exact: a picture has this one answer,
    and it is judged by exact match."""

    task: str
    answer: str
    meta: dict[str, Any]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class SpeechQuestions:
    """Of recordings: `asr`, what was said; `word`, where a row's text is one word of few; `speaker`, where there are several.

    words, speakers: that training knows; there are no questions about others.
    """

    words: frozenset[str]
    speakers: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "SpeechQuestions":
        """From the rows of training."""
        words = {_said(row) for row in rows if len(row["text"].split()) == 1}
        return cls(words=_closed(words), speakers=_closed({label(row, "speaker", "") for row in rows} - {""}))

    def __call__(self, row: Row) -> Iterator[Question]:
        if _said(row):
            yield Question("asr", _said(row), {"question": "asr"})
        if _said(row) in self.words:
            yield Question("word", _said(row), {"question": "word"})
        speaker = label(row, "speaker", "")
        if speaker in self.speakers:
            yield Question("speaker", speaker, {"question": "speaker"})


@dataclass(frozen=True, slots=True)
class ImageQuestions:
    """Of pictures: `caption`, each of its captions in turn (an only one is judged by exact match); `object`, where a row names
    its class (`CLASS_KEYS`)."""

    classes: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "ImageQuestions":
        """From the rows of training."""
        return cls(classes=_closed({class_of(row) for row in rows} - {""}))

    def __call__(self, row: Row) -> Iterator[Question]:
        for caption in row["captions"]:
            exact = len(row["captions"]) == 1
            yield Question("caption", " ".join(caption.split()), {"question": "caption"}, exact=exact)
        if class_of(row) in self.classes:
            yield Question("object", class_of(row), {"question": "object"})


def _closed(answers: set[str]) -> frozenset[str]:
    """The answers, where they are a set that one can choose from; else none."""
    return frozenset(answers if 2 <= len(answers) <= MOST_ANSWERS else ())


def _said(row: Row) -> str:
    return clean_transcript(row["text"], lowercase=True)
