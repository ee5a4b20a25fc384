"""Character and word error rates of a corpus, in percent: all edits by all reference characters (words)."""

from collections.abc import Sequence

from torchmetrics.functional.text import char_error_rate, word_error_rate


def error_rates(heard: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """{"cer", "wer"} of transcripts against references, none of which may be empty; above 100 with many insertions."""
    return {
        "cer": 100 * float(char_error_rate(list(heard), list(truth))),
        "wer": 100 * float(word_error_rate(list(heard), list(truth))),
    }


def shuffled(texts: Sequence[str]) -> list[str]:
    """Each text replaced by another item's: the list turned by half its length. What chance alone would score."""
    half = max(1, len(texts) // 2)
    return [*texts[half:], *texts[:half]]
