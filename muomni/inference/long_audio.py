"""Long recordings: heard in overlapping windows, and cut at pauses into pieces that are written down one by one.

Windows are stitched before anything is decided: of two neighbours' log-probabilities, each gives those on its side of the
middle of what both heard. So a word at a border is heard whole by one of them, and none is lost or written twice; where
the overlap covers what a frame sees on each side, the stitched log-probabilities are those of the whole recording.

Legend: T mel frames, M mel bins, R mel frames a frame of the encoder, T' = ceil(T / R), S symbols with the blank at 0.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.frontends.characters import BLANK
from muomni.models.audio import Audio


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


def log_probs_in_windows(audio: Audio, mel: Tensor, *, length: int, overlap: int, batch_size: int) -> Tensor:
    """mel (T, M) -> log-probabilities (T', S) on the CPU, heard in windows of `length` mel frames that share `overlap`;
    both are rounded down to what falls on the encoder's frames. batch_size: windows at a time."""
    R, device = audio.downsample, next(audio.parameters()).device
    overlap -= overlap % (2 * R)
    length = max(length - length % R, overlap + R)
    starts = window_starts(len(mel), length=length, overlap=overlap)
    windows = [mel[start : start + length] for start in starts]
    heard: list[Tensor] = []
    for first in range(0, len(windows), batch_size):
        rows = windows[first : first + batch_size]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        output = audio(pad_sequence(rows, batch_first=True).to(device), lengths)
        probs = output.logits.float().log_softmax(-1).cpu()
        heard += [row[:count] for row, count in zip(probs, output.lengths.tolist(), strict=True)]
    total = -(-len(mel) // R)
    seams = [0, *((start + overlap // 2) // R for start in starts[1:]), total]
    return torch.cat([
        row[begin - start // R : end - start // R]
        for row, start, (begin, end) in zip(heard, starts, pairwise(seams), strict=True)
    ])  # fmt: skip


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
