"""Transcription of recordings of any length: windowed encoding, segmentation, CTC decoding of each segment, forced alignment.

Legend: T mel frames, M mel bins, T' encoder frames, S symbols, N samples.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

import torch
from torch import Tensor

from muomni.frontends.hearing import PreparedSpeech
from muomni.inference.asr.alignment import Word, align_words
from muomni.inference.asr.ctc_decoders import CtcDecoder
from muomni.inference.asr.long_audio import (
    Segment,
    WindowPlan,
    Windows,
    blank_log_probs,
    certain_end,
    encode_windows,
    fill_log_probs,
    log_probs_of_all,
    plan_windows,
    segment_at_silences,
)
from muomni.inference.asr.transcript import Transcript, TranscriptSegment
from muomni.models.encoders import AudioEncoder

WINDOWS = Windows(length=8.0, overlap=2.0, pause=0.6, max_segment=16.0)
BATCH_SIZE = 16  # windows per forward


class Transcriber:
    """Callable: waveform (N) and mel (T, M) of a recording, a decoder -> its transcript.

    Args:
        audio: the encoder with its head. hop: samples per mel frame. sample_rate: of the waveform, Hz. windows: for recordings
            longer than one of them. max_frames: maximum encoder frames of a segment; None: no limit.
    """

    def __init__(
        self,
        audio: AudioEncoder,
        *,
        hop: int,
        sample_rate: int,
        windows: Windows = WINDOWS,
        max_frames: int | None = None,
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
        return self._decoded(self.log_probs(mel, spans), waveform, decoder, timestamps=timestamps)

    @torch.inference_mode()
    def batch(self, recordings: Sequence[PreparedSpeech], decoder: CtcDecoder, *, timestamps: bool) -> list[Transcript]:
        """Several recordings, encoded at once; each as its single run."""
        plans = [self._plan(recording.mel, recording.spans) for recording in recordings]
        rows = log_probs_of_all(self.audio, plans, batch_size=BATCH_SIZE)
        return [
            self._decoded(log_probs, recording.waveform, decoder, timestamps=timestamps)
            for log_probs, recording in zip(rows, recordings, strict=True)
        ]

    @torch.inference_mode()
    def stream(
        self, waveform: Tensor, mel: Tensor, decoder: CtcDecoder, *, spans: list[tuple[int, int]] | None = None
    ) -> Iterator[TranscriptSegment]:
        """The segments of the transcript, each as soon as the pause after it is encoded; a recording no longer than a window has
        one, at its end."""
        plan = self._plan(mel, spans)
        log_probs = blank_log_probs(plan.total, self.audio.num_symbols)
        writer = SegmentWriter(self, waveform, decoder, timestamps=True)
        done = 0
        batch_sizes = chain((1, 2, 4, 8), repeat(BATCH_SIZE))  # the first segment comes after few windows
        short = self._fits_a_window(plan.total)
        for known in fill_log_probs(self.audio, plan, log_probs, batch_sizes=batch_sizes):
            end = done if short else certain_end(log_probs[:known], begin=done, pause=self._frames(self.windows.pause))
            if end > done:
                for segment in self.segments(log_probs[done:end], first=done, short=False):
                    yield from writer.add(log_probs, segment)
                done = end
        if done < plan.total:
            for segment in self.segments(log_probs[done:], first=done, short=short):
                yield from writer.add(log_probs, segment)
        yield from writer.close()

    def _decoded(self, log_probs: Tensor, waveform: Tensor, decoder: CtcDecoder, *, timestamps: bool) -> Transcript:
        writer = SegmentWriter(self, waveform, decoder, timestamps=timestamps)
        segments: list[TranscriptSegment] = []
        for segment in self.segments(log_probs):
            segments += writer.add(log_probs, segment)
        segments += writer.close()
        words = [word for segment in segments for word in segment.words]
        duration = len(waveform) / (self.frame_rate * self.hop)
        return Transcript(writer.text.strip(), words, segments, duration)

    def _plan(self, mel: Tensor, spans: list[tuple[int, int]] | None) -> WindowPlan:
        length, overlap = (round(s * self.frame_rate) for s in (self.windows.length, self.windows.overlap))
        return plan_windows(mel, downsample=self.audio.downsample, length=length, overlap=overlap, spans=spans)

    def _frames(self, seconds: float) -> int:
        return round(seconds / self.frame_seconds)

    def _fits_a_window(self, frames: int) -> bool:
        return frames * self.frame_seconds <= self.windows.length

    def log_probs(self, mel: Tensor, spans: list[tuple[int, int]] | None = None) -> Tensor:
        """mel (T, M) -> (T', S)."""
        return encode_windows(self.audio, self._plan(mel, spans), batch_size=BATCH_SIZE)

    def segments(self, log_probs: Tensor, *, first: int = 0, short: bool | None = None) -> list[Segment]:
        """(T', S) -> the segments to decode; a single one if it is no longer than a window. first: the frame of the recording at
        which these begin. short: whether the recording is no longer than a window; None: these are all of it."""
        if self._fits_a_window(len(log_probs)) if short is None else short:
            return [Segment(first, first + len(log_probs), pause=True)]
        pause, max_frames = self._frames(self.windows.pause), self._frames(self.windows.max_segment)
        found = segment_at_silences(log_probs, pause=pause, max_frames=max_frames)
        return [Segment(first + each.begin, first + each.end, each.pause) for each in found]


class SegmentWriter:
    """Decodes segments in their order, and joins those that a cut inside a word divides. `text`: of all so far."""

    def __init__(self, transcriber: Transcriber, waveform: Tensor, decoder: CtcDecoder, *, timestamps: bool) -> None:
        self.transcriber, self.waveform, self.decoder, self.timestamps = transcriber, waveform, decoder, timestamps
        self.text = ""
        self.pending: TranscriptSegment | None = None  # the next one may go on inside its last word

    def add(self, log_probs: Tensor, segment: Segment) -> list[TranscriptSegment]:
        """Decode a segment of the recording's log_probs (T', S); returns the one before it, unless it had no words or both are
        one."""
        transcriber = self.transcriber
        step, seconds = transcriber.audio.downsample * transcriber.hop, transcriber.frame_seconds
        frames = log_probs[segment.begin : segment.end]
        text = self.decoder(frames, self.waveform[segment.begin * step : segment.end * step])
        words: list[Word] = []
        if self.timestamps:
            words = align_words(
                frames, text, frame_seconds=seconds, offset=segment.begin * seconds,
                characters=transcriber.audio.characters,
            )  # fmt: skip
        divided = not segment.pause and inside_a_word(self.text, text)
        self.text = f"{self.text.rstrip()} {text.lstrip()}" if segment.pause else self.text + text
        start, end = segment.begin * seconds, segment.end * seconds
        if words:
            start, end = words[0].start, words[-1].end
        if divided and self.pending is not None:
            before = self.pending
            joined = join_words(before.words, words, divided=True)
            self.pending = TranscriptSegment(before.text + text.rstrip(), before.start, end, joined)
            return []
        finished = self.close()
        self.pending = TranscriptSegment(text.strip(), start, end, words)
        return finished

    def close(self) -> list[TranscriptSegment]:
        """The last segment, unless it has no words."""
        last, self.pending = self.pending, None
        return [last] if last is not None and last.text else []


def inside_a_word(before: str, after: str) -> bool:
    """True if the cut between two texts divides a word."""
    return bool(before and after) and not before[-1].isspace() and not after[0].isspace()


def join_words(words: list[Word], more: list[Word], *, divided: bool) -> list[Word]:
    """Append a segment's words; `divided`: the last of `words` and the first of `more` are one word."""
    if not (divided and words and more):
        return words + more
    one, other = words[-1], more[0]
    joined = Word(one.text + other.text, one.start, other.end, confidence=min(one.confidence, other.confidence))
    return [*words[:-1], joined, *more[1:]]
