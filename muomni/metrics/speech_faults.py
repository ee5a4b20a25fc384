"""Faults of synthesis that an error rate hides: words said twice, speech that does not end, or ends too early.

Legend: N samples.
"""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

RUNAWAY = 2.0  # longer than this many times its reference
TRUNCATED = 0.5  # shorter, where nothing says that a limit cut it
LONGEST_RUN = 6  # words that are said twice
FRAME_SECONDS = 0.01
SOUNDING_DB = 40.0  # below the loudest frame: is pause


def repeats(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Runs of up to `LONGEST_RUN` words that are said again at once, and how often: "a red red" -> {("red",): 1}."""
    found: Counter[tuple[str, ...]] = Counter()
    for length in range(1, LONGEST_RUN + 1):
        for begin in range(len(words) - 2 * length + 1):
            run = tuple(words[begin : begin + length])
            if run == tuple(words[begin + length : begin + 2 * length]):
                found[run] += 1
    return found


def repeated_share(said: Sequence[str], truth: Sequence[str]) -> float:
    """Percent of transcripts in which words are said again at once that are not in the reference."""
    pairs = list(zip(said, truth, strict=True))
    return 100 * sum(bool(repeats(text.split()) - repeats(each.split())) for text, each in pairs) / len(pairs)


def length_faults(ratios: Sequence[float], cut: Sequence[bool]) -> dict[str, float]:
    """`truncated` and `runaway`, percent of utterances that were cut off, and of the others that are over `RUNAWAY` times as
    long as their reference; `duration_ratio`, the mean. ratios: length over that of the reference."""
    count = len(ratios)
    return {
        "truncated": 100 * sum(cut) / count,
        "runaway": 100 * sum(r > RUNAWAY and not c for r, c in zip(ratios, cut, strict=True)) / count,
        "duration_ratio": sum(ratios) / count,
    }


def sounding_seconds(waveform: Tensor, *, sample_rate: int) -> float:
    """Seconds of a waveform (N) in frames that are at most `SOUNDING_DB` below the loudest one; 0 for silence."""
    size = round(FRAME_SECONDS * sample_rate)
    if len(waveform) < size:
        return 0.0
    power = waveform.detach().float().unfold(0, size, size).square().mean(1)
    loudest = float(power.max())
    return float((power >= loudest * 10 ** (-SOUNDING_DB / 10)).sum()) * size / sample_rate if loudest > 0 else 0.0


def sounding_ratio(made: Tensor, reference: Tensor, *, sample_rate: int) -> float:
    """Seconds that sound, of one waveform (N) by those of another; 1 for a reference that is silent."""
    of = sounding_seconds(reference, sample_rate=sample_rate)
    return sounding_seconds(made, sample_rate=sample_rate) / of if of else 1.0
