"""Instruction tuning of the omni model: conversations over text, pictures and sound. The Thinker and the projectors learn;
the encoders are frozen, or learn at a rate of their own.

Legend: B batch, T tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import OmniBatch
from muomni.checkpoints.export import check_same
from muomni.evaluation.omni_metrics import OmniScores, shown_answer
from muomni.evaluation.reference_thinker import ThinkerBefore
from muomni.evaluation.spoken_eval import SpokenAnswers
from muomni.evaluation.teacher_forced import controls, likely_answers
from muomni.losses.balance import balance_loss
from muomni.losses.cross_entropy import answer_weights, weighted_cross_entropy
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.base import Stage
from muomni.stages.companions import Companion
from muomni.stages.feature_cache import MediaCache, features_of, features_of_row
from muomni.stages.position_init import name_places
from muomni.stages.resume import check_rates

GENERATED = ("caption", "asr", "tts")  # long answers: generated, then compared; short ones are judged by exact match
RATED = ("thinker", "projectors", "vision", "audio")
SHOWN = 2  # of each task of a split that `samples` gives
Answers = Callable[..., list[list[int]]]


class OmniSftStage(Stage):
    """Cross-entropy of the assistant's tokens.

    Metrics of a split, in percent, by task and kind of question: `image_<kind>`, `text_<kind>`, `audio_qa`,
    `spoken_image_qa` (and `spoken_image_qa_typed`, the same questions typed): exact match under greedy decoding, with
    `_low` and `_high` (95 %), `_majority`, `_pairs` (both of a complementary pair), and for pictures `_blind` (features
    zeroed) and `_shuffled` (another item's picture); `image_mean`; `caption_f1`; `asr_cer`, `asr_wer`; `tts` (text to be
    spoken, exact) and `tts_cer`, `tts_wer` of what the judge hears. Questions in
    the plain form of pretraining also get `_before`: the Thinker as it came.

    Args:
        place_words: the learned places of a picture's tokens start as the Thinker's own words for them ("top left"), so
            that it finds a place that is named.
        thinker, vision, audio: exports; vision and audio may be None. image_projector, audio_projector: new. A projector
            of image_tokens "none" leaves pictures out: the model has no eyes, whatever `vision` is.
        speech: the frozen Talker that speaks answers, and its judge; None: the model only writes.
        answers: greedy generation (muomni/inference/batch.py). max_new_tokens: of a generated answer.
        rates: learning-rate factors of "thinker", "projectors", "vision", "audio"; 0 freezes.
        answer_power: how much less a token of a long answer counts than one of a short answer (`answer_weights`).
        cache_mb: for features of frozen encoders.
        image, mel, hearing, tokenizer, tokenizer_fingerprint, encode, decode: facts of the datamodule.
    """

    name = "omni_sft"
    gathered = ("_scores", "_to_speak")

    def __init__(
        self,
        *,
        thinker: Any,
        vision: Any,
        audio: Any,
        image_projector: ImageProjector,
        audio_projector: AudioProjector,
        speech: SpokenAnswers | None,
        answers: Answers,
        max_new_tokens: int,
        rates: Mapping[str, float],
        place_words: bool,
        answer_power: float,
        cache_mb: int,
        image: Mapping[str, Any],
        mel: Mapping[str, Any],
        tokenizer: Path,
        tokenizer_fingerprint: str,
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
        hearing: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        vision = None if image_projector.num_tokens == 0 else vision
        self.facts: dict[str, Any] = {"tokenizer": tokenizer_fingerprint}
        check_same(thinker.facts, self.facts, where=str(thinker.folder))
        for export, fact, value in ((vision, "image", dict(image)), (audio, "mel", dict(mel))):
            if export is not None:
                check_same(export.facts, {fact: value}, where=str(export.folder))
                self.facts[fact] = value
        if audio is not None:
            self.facts["hearing"] = None if hearing is None else dict(hearing)
            if "hearing" in audio.facts:  # older exports say nothing of it
                check_same(audio.facts, {"hearing": self.facts["hearing"]}, where=str(audio.folder))
        self.model = Omni(
            thinker=thinker.parts["thinker"],
            vision=None if vision is None else vision.parts["vision"],
            image_projector=None if vision is None else image_projector,
            audio=None if audio is None else audio.parts["audio"],
            audio_projector=None if audio is None else audio_projector,
        )
        if place_words and self.model.image_projector is not None:
            name_places(self.model.image_projector, self.model.thinker.embedding.weight, encode)
        self.speech = speech
        self._before = ThinkerBefore(thinker)
        self.rates, self.answers, self.max_new_tokens = dict(rates), answers, max_new_tokens
        self.answer_power = answer_power
        self.decode, self.tokenizer = decode, Path(tokenizer)
        check_rates(self.rates, known=RATED)
        self.frozen = [part.requires_grad_(False) for _, part, rate in self._rated() if not rate]
        learn = any(rates[name] and getattr(self.model, name) is not None for name in ("vision", "audio"))
        self.cache = None if learn else MediaCache(megabytes=cache_mb)

    def train(self, mode: bool = True) -> "OmniSftStage":
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        """Thinker, projectors and the encoders that learn, each at its own rate."""
        return [each for each in self._rated() if each[2]]

    def _rated(self) -> list[tuple[str, nn.Module, float]]:
        names = {"image_projector": "projectors", "audio_projector": "projectors"}
        parts = ("thinker", "image_projector", "audio_projector", "vision", "audio")
        found = [(name, getattr(self.model, name), self.rates[names.get(name, name)]) for name in parts]
        return [each for each in found if each[1] is not None]

    def optional_modules(self) -> dict[str, nn.Module]:
        """Projectors, encoders that learn, and the recogniser's head, which a projector may listen to."""
        model, modules = self.model, dict[str, nn.Module]()
        if model.vision is not None and model.image_projector is not None:
            modules["image"] = nn.ModuleList([model.image_projector, model.vision])
        if model.audio is not None and model.audio_projector is not None:
            modules["audio"] = nn.ModuleList([model.audio_projector, model.audio.encoder])
            modules["characters"] = model.audio.head
        return modules

    def reached(self, batch: OmniBatch) -> set[str]:
        """Those of the modalities that the batch holds."""
        heard = self.model.audio_projector is not None and self.model.audio_projector.characters
        held = {"image": batch.images, "audio": batch.mel, "characters": batch.mel if heard else None}
        return {name for name, media in held.items() if media is not None}

    def companions(self) -> list[Companion | None]:
        """Talker and judge."""
        return [self.speech]

    def sharded_modules(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.model.thinker.transformer.blocks)

    def compiled_modules(self) -> list[nn.Module]:
        """The Thinker's blocks: rows differ in length."""
        return list(self.model.thinker.transformer.blocks)

    def step(self, batch: OmniBatch) -> dict[str, Tensor]:
        """Cross-entropy of what the assistant says, and apart from it that of replayed documents: a document has many
        times the targets of an answer. With a mixture of experts also their balance."""
        features = features_of(self.model, batch, self.cache)
        thinker = self.model.thinker
        batch.note()
        assert batch.learnt is not None
        x = self.model.embed(batch.ids, features=features, slots=batch.slots)
        hidden, router_logits = thinker.forward_hidden(x, ids=batch.ids, mask=batch.mask)
        losses: dict[str, Tensor] = {}
        if router_logits:
            losses["balance"] = balance_loss(router_logits, keep=batch.ids != PAD, per_token=thinker.experts_per_token)
        learnt = batch.learnt  # the head reads these alone: a fifth of a row
        logits, targets = thinker.head(hidden.flatten(0, 1)[learnt]), batch.targets.flatten()[learnt]
        old = batch.replayed
        weights = answer_weights(
            batch.targets if old is None else batch.targets.masked_fill(old, IGNORE), power=self.answer_power
        )
        losses["answer"] = weighted_cross_entropy(logits, targets, weights.flatten()[learnt])
        if old is not None:
            losses["replay"] = weighted_cross_entropy(logits, targets, old.flatten()[learnt].float())
        return losses

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return ("answer", "replay", "balance")

    def target_counts(self, batch: OmniBatch) -> dict[str, Tensor]:
        """Tokens of answers, by their weights, and of replayed documents."""
        learnt = batch.targets != IGNORE
        old = torch.zeros_like(learnt) if batch.replayed is None else batch.replayed
        weights = answer_weights(batch.targets.masked_fill(old, IGNORE), power=self.answer_power)
        return {"answer": weights.sum(), "replay": (learnt & old).sum(), "balance": (batch.ids != PAD).sum()}

    # --- measuring -----------------------------------------------------------------------------------------------

    def begin_split(self, split: str) -> None:
        """Nothing counted yet."""
        self._scores = OmniScores()
        self._to_speak: list[tuple[str, str]] = []
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: OmniBatch, split: str) -> None:
        """Short answers by one teacher-forced pass, which is greedy decoding when every token is the likeliest; long
        answers are generated."""
        features = features_of(self.model, batch, self.cache)
        rows = [row for row, task in enumerate(batch.tasks) if task not in GENERATED]
        if rows:
            right, said = likely_answers(self.model, batch, features)
            for row in rows:
                self._scores.answered(
                    task=batch.tasks[row], meta=batch.meta[row], answer=batch.answers[row],
                    sample_id=batch.sample_ids[row], right=right[row],
                )  # fmt: skip
                self._show(batch, row, self.decode(said[row]), split)
            before = self._before.on(self.device) if "plain" in batch.tasks else None
            for control, task, good in controls(self.model, before, batch, features):
                for row in (row for row in rows if batch.tasks[row] == task):
                    self._scores.control(task=task, meta=batch.meta[row], control=control, right=good[row])
        for row, answer in self._generate(batch, features):
            if batch.tasks[row] == "asr":
                self._scores.transcribed(answer, batch.answers[row])
            elif batch.tasks[row] == "caption":
                self._scores.described(answer, batch.meta[row].get("objects"))
            else:
                self._to_speak.append((answer, batch.answers[row]))
            self._show(batch, row, answer, split)

    def _generate(self, batch: OmniBatch, features: MediaFeatures) -> list[tuple[int, str]]:
        """(row, answer) of the tasks with long answers."""
        rows = [row for row, task in enumerate(batch.tasks) if task in GENERATED]
        if not rows:
            return []
        first = (batch.targets != IGNORE).int().argmax(dim=1).tolist()
        answers = self.answers(
            self.model,
            [batch.ids[row, : first[row] + 1] for row in rows],
            [features_of_row(features, batch, row) for row in rows],
            max_new_tokens=self.max_new_tokens,
        )
        return [(row, self.decode(answer)) for row, answer in zip(rows, answers, strict=True)]

    def _show(self, batch: OmniBatch, row: int, said: str, split: str) -> None:
        sample = shown_answer(batch, row, said, split)
        kind = [sample[key] for key in ("split", "task", "kind")]
        if sum([s["split"], s["task"], s["kind"]] == kind for s in self._shown) < SHOWN:
            self._shown.append(sample)

    def finish_split(self, split: str) -> dict[str, float]:
        """All metrics; what shall be spoken is spoken now, in one batch."""
        self._before.forget()
        if self._to_speak:
            said, truth = map(list, zip(*self._to_speak, strict=True))
            self._scores.written(said, truth)
            if self.speech is not None:
                heard, sounds = self.speech.heard(said)
                truth = self.speech.in_words(truth)
                self._scores.spoken(heard, truth)
                self._shown += self.speech.shown(split, heard[:SHOWN], truth, sounds)
        return self._scores.metrics()

    def samples(self) -> list[dict[str, Any]]:
        """A few questions of each kind with answer and truth."""
        return self._shown

    # --- handing over --------------------------------------------------------------------------------------------

    def export_parts(self) -> dict[str, nn.Module]:
        """Everything that the omni model is made of."""
        own = {name: part for name, part in self.model.named_children() if part is not None}
        return own if self.speech is None else own | self.speech.parts()

    def export_facts(self) -> dict[str, Any]:
        """Frontends and tokenizer."""
        return {"stage": self.name, **({} if self.speech is None else self.speech.facts()), **self.facts}

    def export_files(self) -> dict[str, Path]:
        """The tokenizer."""
        return {"tokenizer.model": self.tokenizer}
