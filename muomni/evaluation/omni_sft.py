"""The omni model: short answers by exact match, long ones generated and compared, and some of them spoken."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from muomni.batch import OmniBatch
from muomni.checkpoints.deferred import DeferredExport
from muomni.evaluation.base import Evaluator
from muomni.evaluation.controls import media_controls
from muomni.evaluation.omni_metrics import OmniState, omni_metrics
from muomni.evaluation.reference_thinker import ReferenceThinker
from muomni.evaluation.spoken_eval import SpokenAnswers
from muomni.evaluation.teacher_forced import control_answers, teacher_forced_answers
from muomni.evaluation.views import ROWS, View, mark_errors, pixels
from muomni.models.omni import MediaFeatures, Omni
from muomni.special_tokens import IGNORE

GENERATED = ("caption", "asr", "tts")  # long answers: generated, then compared; short ones are judged by exact match
MAX_EXAMPLES = 2  # of each type of question


@dataclass(eq=False, repr=False, kw_only=True)
class OmniSftEvaluator(Evaluator[OmniState]):
    """In percent, by task and type of question: `image_<type>`, `text_<type>`, `audio_qa`, `spoken_image_qa` (and
    `spoken_image_qa_typed`, the same questions typed): exact match under greedy decoding, with `_low` and `_high` (95 %),
    `_majority`, `_pairs` (both of a complementary pair), and for images `_blind` (features zeroed) and `_shuffled` (of another
    item); `image_mean`; `caption_f1`; `asr_cer`, `asr_wer`; `tts` (text to be spoken, exact) and of its speech
    `tts_cer`, `tts_wer`, `tts_repeated`, `tts_truncated`, `tts_runaway`, `tts_duration_ratio`, and `whisper_tts_*` by an
    independent judge. Questions in the plain form of pretraining also get `_before`: the Thinker as it came.

    Args:
        model: the omni model. features: batch -> features of its media, from the stage's cache.
        reference: the Thinker before the stage. talker: what speaks the answers; None: the model only writes.
        speech: talker -> `SpokenAnswers`. answers: greedy generation (muomni/inference/batch.py).
        max_new_tokens: of a generated answer. decode: ids -> text.
        audio_controls: questions about recordings, and transcripts, also get `_blind` and `_shuffled`; four passes more.
    """

    model: Omni
    features: Callable[[OmniBatch], MediaFeatures]
    reference: ReferenceThinker
    talker: DeferredExport | None
    speech: Callable[[DeferredExport], SpokenAnswers]
    answers: Callable[..., list[list[int]]]
    max_new_tokens: int
    decode: Callable[[list[int]], str]
    audio_controls: bool = False
    state_type = OmniState

    def __post_init__(self) -> None:
        self.spoken = None if self.talker is None else self.speech(self.talker)

    @torch.no_grad()
    def update(self, batch: OmniBatch) -> None:
        features, state = self.features(batch), self.state
        rows = [row for row, task in enumerate(batch.tasks) if task not in GENERATED]
        if rows:
            self._short_answers(batch, features, rows)
        if self.audio_controls:
            self._control_transcripts(batch, features)
        rows = [row for row, task in enumerate(batch.tasks) if task in GENERATED]
        for row, answer in zip(rows, self._generate(batch, features, rows), strict=True):
            if batch.tasks[row] == "asr":
                state.transcripts.append((answer, batch.answers[row]))
            elif batch.tasks[row] == "caption":
                state.add_caption(answer, batch.meta[row].get("objects"))
            else:
                state.to_speak.append((answer, batch.answers[row]))
            self._show_answer(batch, row, answer)

    def _short_answers(self, batch: OmniBatch, features: MediaFeatures, rows: list[int]) -> None:
        """By one teacher-forced pass each of the model and of its controls."""
        right, answers = teacher_forced_answers(self.model, batch, features)
        for row in rows:
            self.state.add_answer(
                task=batch.tasks[row], meta=batch.meta[row], answer=batch.answers[row],
                sample_id=batch.sample_ids[row], right=right[row],
            )  # fmt: skip
            self._show_answer(batch, row, self.decode(answers[row]))
        reference = self.reference.on(batch.ids.device) if "plain" in batch.tasks else None
        only_audio = set(batch.audio_rows) - set(batch.image_rows) if self.audio_controls else set()
        audio_tasks = {batch.tasks[row] for row in rows if row in only_audio}
        for control, task, good in control_answers(self.model, reference, batch, features, audio_tasks=audio_tasks):
            for row in (row for row in rows if batch.tasks[row] == task):
                self.state.add_control(task=task, meta=batch.meta[row], control=control, right=good[row])

    def _control_transcripts(self, batch: OmniBatch, features: MediaFeatures) -> None:
        rows = [row for row, task in enumerate(batch.tasks) if task == "asr"]
        for control, other in media_controls(features).items() if rows else ():
            answers = self._generate(batch, other, rows)
            pairs = [(answer, batch.answers[row]) for row, answer in zip(rows, answers, strict=True)]
            self.state.control_transcripts[control].extend(pairs)

    def _generate(self, batch: OmniBatch, features: MediaFeatures, rows: list[int]) -> list[str]:
        """Answers of rows whose answers are long."""
        if not rows:
            return []
        first = (batch.targets != IGNORE).int().argmax(dim=1).tolist()
        answers = self.answers(
            self.model,
            [batch.ids[row, : first[row] + 1] for row in rows],
            [features_of_row(features, batch, row) for row in rows],
            max_new_tokens=self.max_new_tokens,
        )
        return [self.decode(answer) for answer in answers]

    def _show_answer(self, batch: OmniBatch, row: int, answer: str) -> None:
        task, kind, meta = batch.tasks[row], batch.meta[row].get("question"), batch.meta[row]
        if sum((each["task"], each["kind"]) == (task, kind) for each in self.examples) < MAX_EXAMPLES:
            media = ("image", batch.image_rows, batch.image_keys), ("audio", batch.audio_rows, batch.audio_keys)
            self.show(
                batch, row, task=task, kind=kind, question=batch.questions[row] or meta.get("spoken", ""), answer=answer,
                truth=batch.answers[row], **{name: keys[rows.index(row)] for name, rows, keys in media if row in rows},
            )  # fmt: skip

    @torch.no_grad()
    def views(self, batch: OmniBatch) -> list[View]:
        """Questions with answers and truths, by one teacher-forced pass; images with theirs."""
        _, answers = teacher_forced_answers(self.model, batch, self.features(batch))
        shown = []
        for row in range(min(2 * ROWS, len(batch.answers))):
            answer = mark_errors(self.decode(answers[row]), batch.answers[row])
            text = f"{batch.tasks[row]}: {batch.questions[row]} -> {answer}   (truth: {batch.answers[row]})"
            held = [number for number, owner in enumerate(batch.image_rows) if owner == row]
            image = None if not held or batch.images is None else pixels(batch.images[held[0]])
            shown.append(View("answers" if image is None else "image answers", text, image))
        return shown

    def compute(self) -> dict[str, float]:
        """What is to be spoken is spoken now, in one batch."""
        self.reference.release()
        rates = dict[str, float]()
        if self.spoken is not None and self.state.to_speak:
            texts, truth = map(list, zip(*self.state.to_speak, strict=True))
            spoken = self.spoken.transcribe(texts, truth, self.device)
            stranger = self.spoken.independent_rates(spoken)
            rates = {f"tts_{name}": value for name, value in spoken.rates().items()}
            rates |= {f"whisper_tts_{name}": value for name, value in stranger.items()}
            self.examples.extend(self.spoken.examples(self.split, spoken, most=MAX_EXAMPLES))
        return {**omni_metrics(self.state), **rates}


def features_of_row(features: MediaFeatures, batch: OmniBatch, row: int) -> MediaFeatures:
    """One row's own media."""
    images = [index for index, owner in enumerate(batch.image_rows) if owner == row]
    audios = [index for index, owner in enumerate(batch.audio_rows) if owner == row]
    own = MediaFeatures()
    if images and features.images is not None:
        own.images = features.images[images]
    if audios and features.audios is not None and features.audio_lengths is not None:
        own.audio_lengths = features.audio_lengths[audios]
        own.audios = features.audios[audios][:, : int(own.audio_lengths.max())]
    return own
