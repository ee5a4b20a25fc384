"""Long recordings: encoded in overlapping windows, and cut at pauses into segments that are decoded one by one.

Frames without speech (muomni/frontends/voice_activity.py) are not encoded: they are blank. Windows are stitched before
decoding: two neighbours each contribute the log-probabilities on their side of the middle of the overlap. So a word at a border
is covered whole by one of them, and none is lost or duplicated; if the overlap covers the encoder's receptive field, the
stitched log-probabilities equal those of the whole recording.

Legend: T mel frames, M mel bins, R mel frames a frame of the encoder, T' = ceil(T / R), S symbols with the blank at 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.frontends.char_vocab import BLANK
from muomni.models.encoders import AudioEncoder

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


@dataclass(slots=True)
class WindowPlan:
    """windows: mels (T_i, M). targets: for each, begin and end of the encoder frames that it contributes, and its first frame.
    total: encoder frames of the recording."""

    windows: list[Tensor]
    targets: list[tuple[int, int, int]]
    total: int


def plan_windows(
    mel: Tensor, *, downsample: int, length: int, overlap: int, spans: list[tuple[int, int]] | None
) -> WindowPlan:
    """mel (T, M) -> windows of `length` mel frames that share `overlap`; both are rounded down to whole frames of the encoder.

    spans: mel frames (begin, end) to encode, each like a separate recording; all between them is blank. None: all.
    """
    R, total = downsample, len(mel)
    overlap -= overlap % (2 * R)
    length = max(length - length % R, overlap + R)
    plan = WindowPlan([], [], -(-total // R))
    for first, last in whole_frames([(0, total)] if spans is None else spans, R, total):
        starts = [first + start for start in window_starts(last - first, length=length, overlap=overlap)]
        seams = [first // R, *((start + overlap // 2) // R for start in starts[1:]), -(-last // R)]
        plan.windows += [mel[start : min(start + length, last)] for start in starts]
        plan.targets += [(begin, end, start // R) for start, (begin, end) in zip(starts, pairwise(seams), strict=True)]
    return plan


def encode_windows(audio: AudioEncoder, plan: WindowPlan, *, batch_size: int) -> Tensor:
    """The log-probabilities (T', S) of a recording, on the CPU. batch_size: windows per forward."""
    result = blank_log_probs(plan.total, audio.num_symbols)
    for _ in fill_log_probs(audio, plan, result, batch_sizes=repeat(batch_size)):
        pass
    return result


def fill_log_probs(
    audio: AudioEncoder, plan: WindowPlan, result: Tensor, *, batch_sizes: Iterable[int]
) -> Iterator[int]:
    """Encode the windows into `result` (T', S), blank at first; yields after each the number of frames that are final.
    batch_sizes: windows of each forward."""
    probs = _encode(audio, plan.windows, batch_sizes)
    for row, (begin, end, start) in zip(probs, plan.targets, strict=True):
        result[begin:end] = row[begin - start : end - start]
        yield end


def log_probs_of_all(audio: AudioEncoder, plans: Sequence[WindowPlan], *, batch_size: int) -> list[Tensor]:
    """Several recordings at once, windows of similar length in a forward -> the log-probabilities (T', S) of each."""
    results = [blank_log_probs(plan.total, audio.num_symbols) for plan in plans]
    jobs = [
        (window, target, result)
        for plan, result in zip(plans, results, strict=True)
        for window, target in zip(plan.windows, plan.targets, strict=True)
    ]
    jobs.sort(key=lambda job: len(job[0]))
    probs = _encode(audio, [window for window, _, _ in jobs], repeat(batch_size))
    for row, (_, (begin, end, start), result) in zip(probs, jobs, strict=True):
        result[begin:end] = row[begin - start : end - start]
    return results


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


def _encode(audio: AudioEncoder, windows: list[Tensor], batch_sizes: Iterable[int]) -> Iterator[Tensor]:
    """Windows of a mel -> log-probabilities (frames, S) of each, on the CPU."""
    device = next(audio.parameters()).device
    first = 0
    for size in batch_sizes:
        if first >= len(windows):
            return
        rows, first = windows[first : first + size], first + size
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


def certain_end(log_probs: Tensor, *, begin: int, pause: int) -> int:
    """The last cut of `segment_at_silences` in a pause that has ended, of the frames from the cut `begin` on; `begin` if there is
    none. log_probs: (T', S) of the frames that are final; cuts before the result do not depend on later frames."""
    runs = [(first + begin, last + begin) for first, last in silences(log_probs[begin:])]
    cuts = [
        (first + last) // 2 for first, last in runs if last - first >= pause and first > begin and last < len(log_probs)
    ]
    return cuts[-1] if cuts else begin
