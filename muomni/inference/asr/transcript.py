"""A transcript with its times, and how it is written: JSON in the shape of OpenAI's verbose_json, SRT and WebVTT subtitles, or
a word a line.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from muomni.inference.asr.alignment import Word
from muomni.inference.decoding.timings import Timings

CUE_CHARACTERS, CUE_SECONDS = 84, 6.0  # of a subtitle: two lines of 42
FORMS = ("text", "json", "srt", "vtt")
LANGUAGE = "english"  # the texts of every recognizer so far


@dataclass(frozen=True, slots=True)
class TranscriptSegment:
    """What is said between two pauses, times in seconds. words: empty where they were not aligned."""

    text: str
    start: float
    end: float
    words: list[Word]

    def cues(self) -> Iterator["TranscriptSegment"]:
        """The segment in pieces that fit a subtitle; itself where its words have no times."""
        cue: list[Word] = []
        for word in self.words:
            characters = sum(len(each.text) + 1 for each in cue) + len(word.text)
            if cue and (characters > CUE_CHARACTERS or word.end - cue[0].start > CUE_SECONDS):
                yield of_words(cue)
                cue = []
            cue.append(word)
        yield of_words(cue) if cue else self


def of_words(words: list[Word]) -> TranscriptSegment:
    """The segment of these words, at least one."""
    return TranscriptSegment(" ".join(word.text for word in words), words[0].start, words[-1].end, words)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text, its words with their times, and its segments. duration: of the recording, in seconds."""

    text: str
    words: list[Word]
    segments: list[TranscriptSegment] = field(default_factory=list)
    duration: float = 0.0
    language: str = LANGUAGE
    timings: Timings = field(default_factory=Timings, compare=False)

    def lines(self) -> list[str]:
        """One line per word: start and end in seconds and the word, separated by tabs (Audacity's label format)."""
        return [f"{word.start:.2f}\t{word.end:.2f}\t{word.text}" for word in self.words]

    def written(self, form: str) -> str:
        """The transcript in one of `FORMS`."""
        match form:
            case "json":
                return self.to_json()
            case "srt":
                return self.to_srt()
            case "vtt":
                return self.to_vtt()
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The shape of OpenAI's verbose_json; `confidence` is ours."""
        return {
            "task": "transcribe",
            "language": self.language,
            "duration": round(self.duration, 3),
            "text": self.text,
            "segments": [
                {"id": index, "start": round(each.start, 3), "end": round(each.end, 3), "text": each.text}
                for index, each in enumerate(self.segments)
            ],
            "words": [
                {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3),
                 "confidence": round(word.confidence, 4)}
                for word in self.words
            ],
        }  # fmt: skip

    def to_json(self) -> str:
        """`to_dict` as one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_srt(self) -> str:
        """SubRip subtitles."""
        return "\n".join(
            f"{index}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
            for index, cue in enumerate(self._cues(), 1)
        )

    def to_vtt(self) -> str:
        """WebVTT subtitles."""
        cues = (f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{cue.text}\n" for cue in self._cues())
        return "\n".join(["WEBVTT\n", *cues])

    def _cues(self) -> Iterator[TranscriptSegment]:
        for segment in self.segments:
            yield from segment.cues()


def _clock(seconds: float, point: str) -> str:
    """Seconds -> 00:00:00,000."""
    total = round(1000 * max(seconds, 0.0))
    hours, minutes, rest = total // 3_600_000, total // 60_000 % 60, total % 60_000
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
