"""Transcription of recordings of any length: windowed encoding, segmentation, CTC decoding of each segment, forced alignment.

Legend: T mel frames, M mel bins, T' encoder frames, S symbols, N samples.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from muomni.inference.asr.alignment import Word, align_words
from muomni.inference.asr.ctc_decoders import CtcDecoder
from muomni.inference.asr.long_audio import Segment, Windows, log_probs_in_windows, segment_at_silences
from muomni.inference.decoding.timings import Timings
from muomni.models.audio import Audio

WINDOWS = Windows(length=8.0, overlap=2.0, pause=0.6, max_segment=16.0)
BATCH_SIZE = 16  # windows per forward


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text and its words with their times."""

    text: str
    words: list[Word]
    timings: Timings = field(default_factory=Timings, compare=False)

    def lines(self) -> list[str]:
        """One line per word: start and end in seconds and the word, separated by tabs (Audacity's label format)."""
        return [f"{word.start:.2f}\t{word.end:.2f}\t{word.text}" for word in self.words]


class Transcriber:
    """Callable: waveform (N) and mel (T, M) of a recording, a decoder -> its transcript.

    Args:
        audio: the encoder with its head. hop: samples per mel frame. sample_rate: of the waveform, Hz. windows: for recordings
            longer than one of them. max_frames: maximum encoder frames of a segment; None: no limit.
    """

    def __init__(
        self, audio: Audio, *, hop: int, sample_rate: int, windows: Windows = WINDOWS, max_frames: int | None = None
    ) -> None:
        self.audio, self.hop = audio, hop
        self.frame_rate = sample_rate / hop  # of the mel
        self.frame_seconds = audio.downsample / self.frame_rate
        self.windows = windows if max_frames is None else windows.at_most(max_frames * self.frame_seconds)

    @torch.inference_mode()
    def __call__(
        self,
        waveform: Tensor,
        mel: Tensor,
        decoder: CtcDecoder,
        *,
        timestamps: bool,
        spans: list[tuple[int, int]] | None = None,
    ) -> Transcript:
        """spans: frames (begin, end) of the mel that contain speech; None: all. `words` is empty without `timestamps`; their
        times are those of the whole recording."""
        log_probs = self.log_probs(mel, spans)
        step = self.audio.downsample * self.hop
        transcript = ""
        words: list[Word] = []
        for segment in self.segments(log_probs):
            frames = log_probs[segment.begin : segment.end]
            text = decoder(frames, waveform[segment.begin * step : segment.end * step])
            if timestamps:
                offset = segment.begin * self.frame_seconds
                aligned = align_words(
                    frames, text, frame_seconds=self.frame_seconds, offset=offset, characters=self.audio.characters
                )
                words = join_words(words, aligned, divided=not segment.pause and inside_a_word(transcript, text))
            transcript = f"{transcript.rstrip()} {text.lstrip()}" if segment.pause else transcript + text
        return Transcript(transcript.strip(), words)

    def log_probs(self, mel: Tensor, spans: list[tuple[int, int]] | None = None) -> Tensor:
        """mel (T, M) -> (T', S)."""
        length, overlap = (round(s * self.frame_rate) for s in (self.windows.length, self.windows.overlap))
        return log_probs_in_windows(self.audio, mel, length=length, overlap=overlap, batch_size=BATCH_SIZE, spans=spans)

    def segments(self, log_probs: Tensor) -> list[Segment]:
        """(T', S) -> the segments to decode; a single one if it is no longer than a window."""
        if len(log_probs) * self.frame_seconds <= self.windows.length:
            return [Segment(0, len(log_probs), pause=True)]
        pause, max_frames = (round(s / self.frame_seconds) for s in (self.windows.pause, self.windows.max_segment))
        return segment_at_silences(log_probs, pause=pause, max_frames=max_frames)


def inside_a_word(before: str, after: str) -> bool:
    """True if the cut between two texts divides a word."""
    return bool(before and after) and not before[-1].isspace() and not after[0].isspace()


def join_words(words: list[Word], more: list[Word], *, divided: bool) -> list[Word]:
    """Append a segment's words; `divided`: the last of `words` and the first of `more` are one word."""
    if not (divided and words and more):
        return words + more
    joined = Word(words[-1].text + more[0].text, words[-1].start, more[0].end)
    return [*words[:-1], joined, *more[1:]]
