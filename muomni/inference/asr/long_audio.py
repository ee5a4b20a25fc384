"""Long recordings: heard in overlapping windows, and cut at pauses into pieces that are written down one by one.

Where nothing is said (muomni/frontends/voice_activity.py) nothing is heard: all is blank there.
Windows are stitched before anything is decided: of two neighbours' log-probabilities, each gives those on its side of the
middle of what both heard. So a word at a border is heard whole by one of them, and none is lost or written twice; where
the overlap covers what a frame sees on each side, the stitched log-probabilities are those of the whole recording.

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

CERTAIN = 25.0  # nats: how much likelier than any character the blank is where nothing is said


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How long recordings are heard. Seconds; what is no longer than a window is heard whole."""

    length: float  # of a window: not far above the clips of training, which is what the encoder knows
    overlap: float  # that neighbours share
    pause: float  # a silence of this length ends a piece; words on its two sides are two words
    longest: float  # piece that is written down at once, where no such pause comes

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.length:
            raise ValueError(f"windows: 0 <= overlap < length is needed, not {self.overlap} and {self.length} seconds")

    def at_most(self, seconds: float) -> "Windows":
        """The same, with no piece longer than `seconds` where the silences allow it."""
        length = min(self.length, seconds)
        overlap = min(self.overlap, length / 4)
        return replace(self, length=length, overlap=overlap, longest=min(self.longest, seconds))


def window_starts(total: int, *, length: int, overlap: int) -> list[int]:
    """Where windows of `length` begin that cover `total` frames; each but the first holds at least `overlap` new ones
    behind those that it shares, or is the only one."""
    step = length - overlap
    return [place * step for place in range(max(1, -(-(total - overlap) // step)))]


def log_probs_in_windows(
    audio: Audio, mel: Tensor, *, length: int, overlap: int, batch_size: int, spans: list[tuple[int, int]] | None = None
) -> Tensor:
    """mel (T, M) -> log-probabilities (T', S) on the CPU, heard in windows of `length` mel frames that share `overlap`;
    both are rounded down to what falls on the encoder's frames. batch_size: windows at a time.

    spans: mel frames (begin, end) that are heard, each as a recording of its own; between them all is blank. None: all.
    """
    R, total = audio.downsample, len(mel)
    overlap -= overlap % (2 * R)
    length = max(length - length % R, overlap + R)
    windows: list[Tensor] = []
    places: list[tuple[int, int, int]] = []  # of each window: the frames that it gives, and the one it begins with
    for first, last in whole_frames([(0, total)] if spans is None else spans, R, total):
        starts = [first + start for start in window_starts(last - first, length=length, overlap=overlap)]
        seams = [first // R, *((start + overlap // 2) // R for start in starts[1:]), -(-last // R)]
        windows += [mel[start : min(start + length, last)] for start in starts]
        places += [(begin, end, start // R) for start, (begin, end) in zip(starts, pairwise(seams), strict=True)]
    result: Tensor | None = None
    for probs, (begin, end, start) in zip(_heard(audio, windows, batch_size), places, strict=True):
        if result is None:
            result = silent(-(-total // R), probs.shape[1])
        result[begin:end] = probs[begin - start : end - start]
    return silent(-(-total // R), audio.num_symbols) if result is None else result


def whole_frames(spans: list[tuple[int, int]], R: int, total: int) -> list[tuple[int, int]]:
    """Spans of mel frames, widened to whole frames of the encoder; those that then touch are one."""
    widened: list[tuple[int, int]] = []
    for begin, end in spans:
        begin, end = begin - begin % R, min(-(-end // R) * R, total)
        if widened and begin <= widened[-1][1]:
            widened[-1] = (widened[-1][0], end)
        else:
            widened.append((begin, end))
    return widened


def silent(frames: int, symbols: int) -> Tensor:
    """Log-probabilities (frames, symbols) of nothing but the blank."""
    logits = torch.full((symbols,), -CERTAIN)
    logits[BLANK] = 0.0
    return logits.log_softmax(-1).expand(frames, symbols).clone()


def _heard(audio: Audio, windows: list[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Windows of a mel -> log-probabilities (frames, S) of each, on the CPU."""
    device = next(audio.parameters()).device
    for first in range(0, len(windows), batch_size):
        rows = windows[first : first + batch_size]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        output = audio(pad_sequence(rows, batch_first=True).to(device), lengths)
        probs = output.logits.float().log_softmax(-1).cpu()
        yield from (row[:count] for row, count in zip(probs, output.lengths.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames begin..end that are written down at once. pause: a pause lies before it, so it begins with a new word."""

    begin: int
    end: int
    pause: bool


def silences(log_probs: Tensor) -> list[tuple[int, int]]:
    """Runs of frames (begin, end) whose likeliest symbol is the blank."""
    blank = (log_probs.argmax(-1) == BLANK).int()
    edges = torch.diff(blank, prepend=blank.new_zeros(1), append=blank.new_zeros(1))
    begins, ends = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    return list(zip(begins, ends, strict=True))


def cut_at_silences(log_probs: Tensor, *, pause: int, longest: int) -> list[Piece]:
    """log_probs (T', S) -> pieces that cover all frames: cut in the middle of each silence of at least `pause` frames, and
    where that leaves more than `longest`, in the longest silence of the last half of so many frames, or the next one.

    Every cut falls on a blank, so the pieces' greedy texts joined are that of the whole.
    """
    runs = silences(log_probs)
    total = len(log_probs)
    marks = {0: True} | {
        (begin + end) // 2: True for begin, end in runs if end - begin >= pause and begin and end < total
    }
    for begin, end in pairwise([*sorted(marks), total]):
        while end - begin > longest:
            near = [run for run in runs if begin + longest // 2 <= run[0] and run[1] <= begin + longest]
            later = [run for run in runs if begin + longest < run[1] and run[0] < end]
            if not near and not later:
                break
            first, last = max(near, key=lambda run: run[1] - run[0]) if near else later[0]
            begin = (max(first, begin) + min(last, end)) // 2
            marks[begin] = False
    return [Piece(begin, end, marks[begin]) for begin, end in pairwise([*sorted(marks), total])]
