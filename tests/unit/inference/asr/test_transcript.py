"""How transcripts are written."""

import json

from muomni.inference.asr.alignment import Word
from muomni.inference.asr.transcript import Transcript, TranscriptSegment, of_words


def transcript():
    first = of_words([Word("the", 0.1, 0.25, confidence=0.98765), Word("circle", 0.3, 0.9)])
    second = of_words([Word(f"word{index}", 3600 + index, 3600.5 + index) for index in range(9)])
    segments = [first, second, TranscriptSegment("no times", 3700.0, 3701.9996, [])]
    words = [*first.words, *second.words]
    return Transcript(" ".join(segment.text for segment in segments), words, segments, duration=3702.0)


def test_json_has_the_shape_of_verbose_json():
    read = json.loads(transcript().to_json())
    assert list(read) == ["task", "language", "duration", "text", "segments", "words"]
    assert (read["task"], read["language"], read["duration"]) == ("transcribe", "english", 3702.0)
    assert read["segments"][0] == {"id": 0, "start": 0.1, "end": 0.9, "text": "the circle"}
    assert read["words"][0] == {"word": "the", "start": 0.1, "end": 0.25, "confidence": 0.9877}


def test_subtitles():
    assert transcript().to_srt() == (
        "1\n00:00:00,100 --> 00:00:00,900\nthe circle\n\n"
        "2\n01:00:00,000 --> 01:00:05,500\nword0 word1 word2 word3 word4 word5\n\n"
        "3\n01:00:06,000 --> 01:00:08,500\nword6 word7 word8\n\n"
        "4\n01:01:40,000 --> 01:01:42,000\nno times\n"
    )
    lines = transcript().to_vtt().splitlines()
    assert lines[:4] == ["WEBVTT", "", "00:00:00.100 --> 00:00:00.900", "the circle"]
    assert Transcript("", []).to_srt() == ""
    assert Transcript("", []).to_vtt() == "WEBVTT\n"
