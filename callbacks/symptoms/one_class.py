"""A data set whose targets are one and the same: there is nothing to tell apart, and the loss falls all the same."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from callbacks.symptoms.base import Symptom
from muomni.batch import ImageTextBatch, OcrBatch, OmniBatch, SpeechBatch, TextBatch

RECONSTRUCTED = ("codec", "vocoder")  # stages whose targets are the recordings themselves
REPLAYED = "replay"  # the task of documents of pretraining among the conversations of omni_sft


@dataclass(kw_only=True)
class OneClass(Symptom):
    """The captions, texts, answers or documents of all samples examined so far are equal.

    samples: different ones that must have been examined before.
    """

    samples: int
    _labels: set[Hashable] = field(default_factory=set, init=False)
    _seen: set[str] = field(default_factory=set, init=False)

    def finding(self, stage: Any, batch: Any) -> str | None:
        if len(self._labels) > 1 or stage.name in RECONSTRUCTED:
            return None
        what, labels = labels_of(batch)
        for name, label in labels:
            self._labels.add(label)
            self._seen.add(name)
        if len(self._labels) != 1 or len(self._seen) < self.samples:
            return None
        (label,) = self._labels
        shown = f" ({label[:60]!r})" if isinstance(label, str) else ""
        return (
            f"a data set of one class: the {what} of all {len(self._seen)} samples so far are one and the same{shown}. Look "
            "at the manifest (python -m datamodules.check), and whether its rows were filtered or sorted by class"
        )


def labels_of(batch: Any) -> tuple[str, Iterable[tuple[str, Hashable]]]:
    """What the targets of a batch are called, and (sample, target) of each."""
    if isinstance(batch, ImageTextBatch):
        return "captions", zip(batch.sample_ids, batch.captions, strict=True)
    if isinstance(batch, OcrBatch | SpeechBatch):
        return "texts", zip(batch.sample_ids, batch.texts, strict=False)
    if isinstance(batch, OmniBatch):
        rows = zip(batch.sample_ids, batch.answers, batch.tasks, strict=True)
        return "answers", [(name, answer) for name, answer, task in rows if task != REPLAYED]
    if isinstance(batch, TextBatch):
        documents = list(_documents(batch))
        return "documents", zip(batch.sample_ids, documents, strict=False)
    return "targets", []


def _documents(batch: TextBatch) -> Iterable[tuple[int, ...]]:
    """The tokens of each document, in the order of the rows."""
    rows, mask = batch.ids.tolist(), batch.mask
    if mask is None:
        for row, length in zip(rows, batch.lengths.tolist(), strict=True):
            yield tuple(row[:length])
        return
    for row, segments in zip(rows, mask.segment_ids.tolist(), strict=True):
        for segment in range(1, max(segments) + 1):
            yield tuple(token for token, of in zip(row, segments, strict=True) if of == segment)
