"""Character and word error rates of a corpus, in percent: all edits by all reference characters (words); and how they spread
over its sentences."""

from collections.abc import Sequence

import numpy as np
from torchmetrics.functional.text import char_error_rate, edit_distance, word_error_rate

RESAMPLES, LEVEL = 1000, 95.0  # of the bootstrap; percent


def error_rates(heard: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """{"cer", "wer"} of transcripts against references, none of which may be empty; above 100 with many insertions."""
    return {
        "cer": 100 * float(char_error_rate(list(heard), list(truth))),
        "wer": 100 * float(word_error_rate(list(heard), list(truth))),
    }


def error_spread(heard: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """Of the CER, in percent, references not empty: `low` and `high`, the bounds of its 95 % interval by the bootstrap over
    sentences (Bisani and Ney 2004; always of the same draws); `mean`, `median` and `capped` of the sentences' own rates, the
    last the mean with none counted above 100, so that one runaway transcript does not decide it."""
    edits = edit_distance(list(heard), list(truth), reduction="none").double().numpy()
    lengths = np.array([len(text) for text in truth], dtype=float)
    rates = 100 * edits / lengths
    low, high = bootstrap_interval(edits, lengths)
    return {
        "low": 100 * low,
        "high": 100 * high,
        "mean": float(rates.mean()),
        "median": float(np.median(rates)),
        "capped": float(np.minimum(rates, 100).mean()),
    }


def bootstrap_interval(counts: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of sum(counts) / sum(sizes): percentiles over resamples of the pairs (n,), with a generator of its
    own."""
    rows = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    ratios = counts[rows].sum(axis=1) / sizes[rows].sum(axis=1)
    low, high = np.percentile(ratios, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def shuffled(texts: Sequence[str]) -> list[str]:
    """Each text replaced by another item's: the list turned by half its length. What chance alone would score."""
    half = max(1, len(texts) // 2)
    return [*texts[half:], *texts[:half]]
