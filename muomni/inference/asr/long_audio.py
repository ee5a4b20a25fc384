"""Long recordings: encoded in overlapping windows, and cut at pauses into segments that are decoded one by one.

Frames without speech (muomni/frontends/voice_activity.py) are not encoded: they are blank. Windows are stitched before
decoding: two neighbours each contribute the log-probabilities on their side of the middle of the overlap. So a word at a border
is covered whole by one of them, and none is lost or duplicated; if the overlap covers the encoder's receptive field, the
stitched log-probabilities equal those of the whole recording.

Legend: T mel frames, M mel bins, R mel frames a frame of the encoder, T' = ceil(T / R), S symbols with the blank at 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.frontends.char_vocab import BLANK
from muomni.models.audio import Audio

BLANK_MARGIN = 25.0  # logit of the blank over that of any character where nothing is said, in nats


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows and segments of long recordings, in seconds; a recording no longer than a window is encoded whole."""

    length: float  # of a window: close to the clips of training
    overlap: float  # of neighbouring windows
    pause: float  # a silence of this length ends a segment, and words on its two sides are separate
    max_segment: float  # longest segment decoded at once, where there is no such pause

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length:
            raise ValueError(f"windows: 0 <= overlap < length is needed, not {self.overlap} and {self.length} seconds")

    def at_most(self, seconds: float) -> "Windows":
        """A copy with no segment longer than `seconds`, as far as the silences allow."""
        length = min(self.length, seconds)
        overlap = min(self.overlap, length / 4)
        return replace(self, length=length, overlap=overlap, max_segment=min(self.max_segment, seconds))


def window_starts(total: int, *, length: int, overlap: int) -> list[int]:
    """First frames of the windows of `length` that cover `total` frames; each but the first has new frames after the
    overlap."""
    step = length - overlap
    return [index * step for index in range(max(1, -(-(total - overlap) // step)))]


def log_probs_in_windows(
    audio: Audio, mel: Tensor, *, length: int, overlap: int, batch_size: int, spans: list[tuple[int, int]] | None = None
) -> Tensor:
    """mel (T, M) -> log-probabilities (T', S) on the CPU, encoded in windows of `length` mel frames that share `overlap`; both
    are rounded down to whole frames of the encoder. batch_size: windows per forward.

    spans: mel frames (begin, end) to encode, each like a separate recording; all between them is blank. None: all.
    """
    R, total = audio.downsample, len(mel)
    overlap -= overlap % (2 * R)
    length = max(length - length % R, overlap + R)
    windows: list[Tensor] = []
    targets: list[
        tuple[int, int, int]
    ] = []  # per window: begin and end of the frames that it contributes, its first frame
    for first, last in whole_frames([(0, total)] if spans is None else spans, R, total):
        starts = [first + start for start in window_starts(last - first, length=length, overlap=overlap)]
        seams = [first // R, *((start + overlap // 2) // R for start in starts[1:]), -(-last // R)]
        windows += [mel[start : min(start + length, last)] for start in starts]
        targets += [(begin, end, start // R) for start, (begin, end) in zip(starts, pairwise(seams), strict=True)]
    result: Tensor | None = None
    for probs, (begin, end, start) in zip(_encode(audio, windows, batch_size), targets, strict=True):
        if result is None:
            result = blank_log_probs(-(-total // R), probs.shape[1])
        result[begin:end] = probs[begin - start : end - start]
    return blank_log_probs(-(-total // R), audio.num_symbols) if result is None else result


def whole_frames(spans: list[tuple[int, int]], R: int, total: int) -> list[tuple[int, int]]:
    """Spans of mel frames, widened to whole frames of the encoder; spans that then touch are merged."""
    widened: list[tuple[int, int]] = []
    for begin, end in spans:
        begin, end = begin - begin % R, min(-(-end // R) * R, total)
        if widened and begin <= widened[-1][1]:
            widened[-1] = (widened[-1][0], end)
        else:
            widened.append((begin, end))
    return widened


def blank_log_probs(frames: int, symbols: int) -> Tensor:
    """Log-probabilities (frames, symbols) of silence."""
    logits = torch.full((symbols,), -BLANK_MARGIN)
    logits[BLANK] = 0.0
    return logits.log_softmax(-1).expand(frames, symbols).clone()


def _encode(audio: Audio, windows: list[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Windows of a mel -> log-probabilities (frames, S) of each, on the CPU."""
    device = next(audio.parameters()).device
    for first in range(0, len(windows), batch_size):
        rows = windows[first : first + batch_size]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        output = audio(pad_sequence(rows, batch_first=True).to(device), lengths)
        probs = output.logits.float().log_softmax(-1).cpu()
        yield from (row[:count] for row, count in zip(probs, output.lengths.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames begin..end that are decoded at once. pause: True if it follows a pause, so it begins with a new word."""

    begin: int
    end: int
    pause: bool


def silences(log_probs: Tensor) -> list[tuple[int, int]]:
    """Runs of frames (begin, end) whose most likely symbol is the blank."""
    blank = (log_probs.argmax(-1) == BLANK).int()
    edges = torch.diff(blank, prepend=blank.new_zeros(1), append=blank.new_zeros(1))
    begins, ends = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    return list(zip(begins, ends, strict=True))


def segment_at_silences(log_probs: Tensor, *, pause: int, max_frames: int) -> list[Segment]:
    """log_probs (T', S) -> segments that cover all frames: cut in the middle of each silence of at least `pause` frames; longer
    segments than `max_frames` also in the longest silence of the second half of `max_frames`, or else in the next silence.

    Every cut falls on a blank, so the segments' greedy texts joined equal that of the whole.
    """
    runs = silences(log_probs)
    total = len(log_probs)
    marks = {0: True} | {
        (begin + end) // 2: True for begin, end in runs if end - begin >= pause and begin and end < total
    }
    for begin, end in pairwise([*sorted(marks), total]):
        while end - begin > max_frames:
            near = [run for run in runs if begin + max_frames // 2 <= run[0] and run[1] <= begin + max_frames]
            later = [run for run in runs if begin + max_frames < run[1] and run[0] < end]
            if not near and not later:
                break
            first, last = max(near, key=lambda run: run[1] - run[0]) if near else later[0]
            begin = (max(first, begin) + min(last, end)) // 2
            marks[begin] = False
    return [Segment(begin, end, marks[begin]) for begin, end in pairwise([*sorted(marks), total])]
