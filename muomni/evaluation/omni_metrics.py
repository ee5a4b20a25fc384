"""What the omni stage counts over a split, and the metrics that come of it."""

import logging
from collections import defaultdict
from collections.abc import Hashable
from typing import Any

from muomni.batch import OmniBatch
from muomni.metrics.error_rates import error_rates
from muomni.metrics.exact_match import interval, majority, pairs_right, percent
from muomni.metrics.object_set import ObjectSetF1

log = logging.getLogger(__name__)

#: Task of a question -> the start of its metric's name; what is not listed keeps the task's own name.
PREFIXES = {"image_qa": "image", "text_qa": "text", "plain": "text"}
IMAGE_MEAN = ("colour", "shape", "count", "where", "relation")


class OmniScores:
    """Answers of a split, right or wrong, by kind of question."""

    def __init__(self) -> None:
        self._right: dict[str, list[bool]] = defaultdict(list)
        self._answers: dict[str, list[str]] = defaultdict(list)
        self._pairs: dict[str, list[Hashable | None]] = defaultdict(list)
        self._spoken: list[tuple[bool, str | None]] = []
        self._typed: dict[str, bool] = {}
        self._captions = ObjectSetF1()
        self._undescribed = 0  # captions of pictures whose objects nobody has named
        self._heard: tuple[list[str], list[str]] = ([], [])
        self._said: tuple[list[str], list[str]] = ([], [])

    def answered(self, *, task: str, meta: dict[str, Any], answer: str, sample_id: str, right: bool) -> None:
        """One question of exact match."""
        kind = f"{PREFIXES.get(task, task)}_{meta.get('question', 'other')}" if task in PREFIXES else task
        self._right[kind].append(right)
        self._answers[kind].append(answer)
        self._pairs[kind].append(meta.get("pair"))
        if task == "image_qa":
            self._typed[sample_id] = right
        if task == "spoken_image_qa":
            self._spoken.append((right, meta.get("typed")))

    def control(self, *, task: str, meta: dict[str, Any], control: str, right: bool) -> None:
        """The same question with its media taken away ("blind"), replaced ("shuffled"), or by another model ("before")."""
        kind = f"{PREFIXES[task]}_{meta.get('question', 'other')}" if task in PREFIXES else task
        self._right[f"{kind}_{control}"].append(right)

    def described(self, caption: str, objects: list[dict[str, Any]] | None) -> None:
        """A caption and what its picture holds; None where nobody has said."""
        if objects is None:
            self._undescribed += 1
        else:
            self._captions.add(caption, objects)

    def transcribed(self, heard: str, truth: str) -> None:
        """A transcript and its reference."""
        self._heard[0].append(heard)
        self._heard[1].append(truth)

    def written(self, texts: list[str], truth: list[str]) -> None:
        """Texts that shall be spoken, and what they should be."""
        self._right["tts"] += [text == true for text, true in zip(texts, truth, strict=True)]

    def spoken(self, heard: list[str], truth: list[str]) -> None:
        """What a recogniser hears of answers that were spoken, and what it should."""
        self._said[0].extend(heard)
        self._said[1].extend(truth)

    def metrics(self) -> dict[str, float]:
        """Everything, in percent."""
        values = {kind: percent(right) for kind, right in self._right.items()}
        for kind, answers in self._answers.items():
            values[f"{kind}_majority"] = majority(answers)
            values[f"{kind}_low"], values[f"{kind}_high"] = interval(self._right[kind])
            pairs = pairs_right(self._right[kind], self._pairs[kind])
            if pairs == pairs:
                values[f"{kind}_pairs"] = pairs
        for ending in ("", "_blind", "_shuffled", "_majority"):
            asked = [values[f"image_{kind}{ending}"] for kind in IMAGE_MEAN if f"image_{kind}{ending}" in values]
            if asked:
                values[f"image_mean{ending}"] = sum(asked) / len(asked)
        same = [(right, self._typed[typed]) for right, typed in self._spoken if typed in self._typed]
        if same:
            values["spoken_image_qa_typed"] = percent([typed for _, typed in same])
        if self._undescribed:
            log.warning("caption_f1 leaves out %d captions: their rows have no meta.objects", self._undescribed)
        if self._captions.captions:
            values["caption_f1"] = self._captions.value()
        for task, texts in (("asr", self._heard), ("tts", self._said)):
            if texts[0]:
                values |= {f"{task}_{name}": value for name, value in error_rates(*texts).items()}
        return values


def shown_answer(batch: OmniBatch, row: int, said: str, split: str) -> dict[str, Any]:
    """An answer with its question, its media and the truth, for logger and report card."""
    meta = batch.meta[row]
    sample = {
        "split": split,
        "id": batch.sample_ids[row],
        "task": batch.tasks[row],
        "kind": meta.get("question"),
        "question": batch.questions[row] or meta.get("spoken", ""),
        "answer": said,
        "truth": batch.answers[row],
    }
    for name, rows, keys in (
        ("image", batch.image_rows, batch.image_keys),
        ("audio", batch.audio_rows, batch.audio_keys),
    ):
        if row in rows:
            sample[name] = keys[rows.index(row)]
    return sample
