"""What is counted of a split of conversations, and the metrics that come of it."""

import logging
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from muomni.evaluation.base import State
from muomni.metrics.error_rates import error_rates
from muomni.metrics.exact_match import interval, majority, pairs_right, percent
from muomni.metrics.object_set import object_set_f1

log = logging.getLogger(__name__)

#: Task of a question -> the start of its metric's name; what is not listed keeps the task's own name.
PREFIXES = {"image_qa": "image", "text_qa": "text", "plain": "text"}
IMAGE_MEAN = ("colour", "shape", "count", "where", "relation")

Objects = list[dict[str, Any]]


def _lists() -> dict[str, list[Any]]:
    return defaultdict(list)


@dataclass
class OmniState(State):
    """Answers of a split.

    right, answers, pairs: by name of the metric, one entry a question. spoken_questions: right, and the id of the same question
    typed. typed: by id. captions: with the objects of their images. transcripts, to_speak: with their references;
    control_transcripts: the same by control.
    """

    right: dict[str, list[bool]] = field(default_factory=_lists)
    answers: dict[str, list[str]] = field(default_factory=_lists)
    pairs: dict[str, list[Hashable | None]] = field(default_factory=_lists)
    spoken_questions: list[tuple[bool, str | None]] = field(default_factory=list)
    typed: dict[str, bool] = field(default_factory=dict)
    captions: list[tuple[str, Objects]] = field(default_factory=list)
    unknown_objects: int = 0
    transcripts: list[tuple[str, str]] = field(default_factory=list)
    control_transcripts: dict[str, list[tuple[str, str]]] = field(default_factory=_lists)
    to_speak: list[tuple[str, str]] = field(default_factory=list)

    def add_answer(self, *, task: str, meta: dict[str, Any], answer: str, sample_id: str, right: bool) -> None:
        """One question of exact match."""
        name = metric_name(task, meta)
        self.right[name].append(right)
        self.answers[name].append(answer)
        self.pairs[name].append(meta.get("pair"))
        if task == "image_qa":
            self.typed[sample_id] = right
        if task == "spoken_image_qa":
            self.spoken_questions.append((right, meta.get("typed")))

    def add_control(self, *, task: str, meta: dict[str, Any], control: str, right: bool) -> None:
        """The same question with its media zeroed ("blind"), replaced ("shuffled"), or for another model ("before")."""
        self.right[f"{metric_name(task, meta)}_{control}"].append(right)

    def add_caption(self, caption: str, objects: Objects | None) -> None:
        """A caption and what its image holds; None where the manifest does not say."""
        if objects is None:
            self.unknown_objects += 1
        else:
            self.captions.append((caption, objects))


def metric_name(task: str, meta: dict[str, Any]) -> str:
    """`image_colour`, `text_fact`, or the task's own name."""
    return f"{PREFIXES[task]}_{meta.get('question', 'other')}" if task in PREFIXES else task


def omni_metrics(state: OmniState) -> dict[str, float]:
    """Everything but the speech of the answers, in percent."""
    right = dict(state.right)
    if state.to_speak:
        right["tts"] = [text == truth for text, truth in state.to_speak]
    values = {name: percent(each) for name, each in right.items()}
    for name, answers in state.answers.items():
        values[f"{name}_majority"] = majority(answers)
        values[f"{name}_low"], values[f"{name}_high"] = interval(right[name])
        pairs = pairs_right(right[name], state.pairs[name])
        if pairs == pairs:
            values[f"{name}_pairs"] = pairs
    for ending in ("", "_blind", "_shuffled", "_majority"):
        found = [values[f"image_{kind}{ending}"] for kind in IMAGE_MEAN if f"image_{kind}{ending}" in values]
        if found:
            values[f"image_mean{ending}"] = sum(found) / len(found)
    typed = [state.typed[sample] for _, sample in state.spoken_questions if sample in state.typed]
    if typed:
        values["spoken_image_qa_typed"] = percent(typed)
    if state.unknown_objects:
        log.warning("caption_f1 leaves out %d captions: their rows have no meta.objects", state.unknown_objects)
    if state.captions:
        values["caption_f1"] = object_set_f1(*zip(*state.captions, strict=True))
    transcripts = ([text for text, _ in state.transcripts], [truth for _, truth in state.transcripts])
    if state.transcripts:
        values |= {f"asr_{name}": value for name, value in error_rates(*transcripts).items()}
    for control, transcribed in state.control_transcripts.items():
        rates = error_rates([text for text, _ in transcribed], [truth for _, truth in transcribed])
        values |= {f"asr_{name}_{control}": value for name, value in rates.items()}
    return values
