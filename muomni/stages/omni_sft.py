"""Instruction tuning of the omni model: conversations over text, images and audio. The Thinker and the projectors learn;
the encoders are frozen, or learn at a rate of their own.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from muomni.batch import OmniBatch
from muomni.checkpoints.deferred import DeferredExport
from muomni.checkpoints.export import Export, check_same
from muomni.evaluation.omni_sft import OmniSftEvaluator
from muomni.evaluation.reference_thinker import ReferenceThinker
from muomni.frontends.heard_words import WordReader
from muomni.frontends.text_form import form_metadata
from muomni.losses.balance import balance_loss
from muomni.losses.cross_entropy import answer_weights, weighted_cross_entropy
from muomni.models import flops
from muomni.models.encoders import AudioEncoder, ImageEncoder
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.models.thinker import Thinker
from muomni.nn.flops import Cost
from muomni.special_tokens import IGNORE, PAD
from muomni.stages.base import Stage
from muomni.stages.feature_cache import MediaCache, audio_tokens, features_of
from muomni.stages.position_init import init_positions
from muomni.stages.resume import check_lr_multipliers
from muomni.stages.training_options import TrainingOptions

log = logging.getLogger(__name__)

RATED = ("thinker", "projectors", "vision", "audio")


class OmniSftStage(Stage):
    """Cross-entropy of the assistant's tokens.

    Args:
        place_words: the learned positions of an image's tokens start as the Thinker's own words for them ("top left").
        thinker, vision, audio: exports; vision and audio may be None. image_projector, audio_projector: new. A projector
            of image_tokens "none" leaves images out: the model has no vision encoder, whatever `vision` is.
        talker: what speaks the answers; its modules are exported with the model. None: the model only writes.
        evaluator: the model, `features`, `reference`, `talker` and `decode` -> what measures it.
        lr_multipliers: learning-rate factors of "thinker", "projectors", "vision", "audio"; 0 freezes.
        length_exponent: how much less a token of a long answer counts than one of a short answer (`answer_weights`).
        cache_mb: for features of frozen encoders.
        image, mel, hearing, tokenizer, tokenizer_fingerprint, encode, decode: metadata of the datamodule.
    """

    name = "omni_sft"
    loss_names = ("answer", "replay", "balance")
    smooths_labels = True
    model: Omni

    def __init__(
        self,
        *,
        thinker: Export,
        vision: Export | None,
        audio: Export | None,
        image_projector: ImageProjector,
        audio_projector: AudioProjector,
        talker: DeferredExport | None,
        evaluator: Callable[..., OmniSftEvaluator],
        lr_multipliers: Mapping[str, float],
        place_words: bool,
        length_exponent: float,
        cache_mb: int,
        image: Mapping[str, Any],
        mel: Mapping[str, Any],
        tokenizer: Path,
        tokenizer_fingerprint: str,
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
        training: TrainingOptions,
        hearing: Mapping[str, Any] | None = None,
    ) -> None:
        vision = None if image_projector.num_tokens == 0 else vision
        metadata: dict[str, Any] = {"tokenizer": tokenizer_fingerprint}
        form = None if training.text_form is None else form_metadata(training.text_form)
        check_same(
            thinker.metadata, metadata | {"text": form}, where=str(thinker.folder), remedy="give text= as it had"
        )
        for export, fact, value in ((vision, "image", dict(image)), (audio, "mel", dict(mel))):
            if export is not None:
                check_same(export.metadata, {fact: value}, where=str(export.folder))
                metadata[fact] = value
        if audio is not None:
            metadata["hearing"] = None if hearing is None else dict(hearing)
            if "hearing" in audio.metadata:  # older exports say nothing of it
                check_same(audio.metadata, {"hearing": metadata["hearing"]}, where=str(audio.folder))
        # An export has one tokenizer, also for the Thinker whose states a Talker is told.
        if talker is not None and "talker_thinker" in talker.metadata:
            remedy = "train stage=talker with this Thinker, or with backbone.talker.conditioning=text"
            check_same(talker.metadata, {"tokenizer": tokenizer_fingerprint}, where=str(talker.folder), remedy=remedy)
        model = joined(
            thinker, vision, audio, image_projector=image_projector, audio_projector=audio_projector, encode=encode
        )
        if place_words and model.image_projector is not None:
            words, scale = model.thinker.embedding.weight, model.thinker.embedding_scale
            init_positions(model.image_projector, words, encode, scale=scale)
        measured = evaluator(
            model=model, features=self.features, reference=ReferenceThinker(thinker), talker=talker, decode=decode
        )
        super().__init__(training, model=model, evaluator=measured, metadata=metadata, tokenizer=tokenizer)
        self.talker, self.lr_multipliers, self.length_exponent = talker, dict(lr_multipliers), length_exponent
        check_lr_multipliers(self.lr_multipliers, known=RATED)
        for _, module, rate in self._rated():
            if not rate:
                self.keep_frozen(module)
        learn = any(lr_multipliers[name] and getattr(self.model, name) is not None for name in ("vision", "audio"))
        self.cache = None if learn else MediaCache(megabytes=cache_mb)

    def features(self, batch: OmniBatch) -> MediaFeatures:
        """Of a batch's media, from the cache where the encoders are frozen."""
        return features_of(self.model, batch, self.cache)

    def trained_modules(self) -> list[tuple[str, nn.Module, float]]:
        """Thinker, projectors and the encoders that learn, each at its own rate."""
        return [each for each in self._rated() if each[2]]

    def _rated(self) -> list[tuple[str, nn.Module, float]]:
        names = {"image_projector": "projectors", "audio_projector": "projectors"}
        modules = ("thinker", "image_projector", "audio_projector", "vision", "audio")
        found = [(name, getattr(self.model, name), self.lr_multipliers[names.get(name, name)]) for name in modules]
        return [each for each in found if each[1] is not None]

    def optional_modules(self) -> dict[str, nn.Module]:
        """Projectors, encoders that learn, and the recognizer's head, whose output a projector may read."""
        model, modules = self.model, dict[str, nn.Module]()
        if model.vision is not None and model.image_projector is not None:
            modules["image"] = nn.ModuleList([model.image_projector, model.vision])
        if model.audio is not None and model.audio_projector is not None:
            modules["audio"] = nn.ModuleList([model.audio_projector, model.audio.encoder])
            modules["characters"] = model.audio.head
        return modules

    def used_modules(self, batch: OmniBatch) -> set[str]:
        """Those of the modalities that the batch holds."""
        by_character = self.model.audio_projector is not None and self.model.audio_projector.characters
        held = {"image": batch.images, "audio": batch.mel, "characters": batch.mel if by_character else None}
        return {name for name, media in held.items() if media is not None}

    def sharded_modules(self) -> list[nn.Module]:
        return list(self.model.thinker.transformer.blocks)

    def compiled_modules(self) -> list[nn.Module]:
        return self.sharded_modules()

    def step(self, batch: OmniBatch) -> dict[str, Tensor]:
        """Cross-entropy of what the assistant says, and apart from it that of replayed documents: a document has many
        times the targets of an answer. With a mixture of experts also their balance."""
        features, thinker, smooth = self.features(batch), self.model.thinker, self.smoothing
        batch.precompute()
        assert batch.target_indices is not None
        x = self.model.embed(batch.ids, features=features, slots=batch.slots)
        hidden, router_logits, _ = thinker.forward_hidden(x, ids=batch.ids, mask=batch.mask)
        losses: dict[str, Tensor] = {}
        if router_logits:
            losses["balance"] = balance_loss(router_logits, keep=batch.ids != PAD, per_token=thinker.experts_per_token)
        learnt = batch.target_indices  # the head reads these alone: a fifth of a row
        logits, targets = thinker.head(hidden.flatten(0, 1)[learnt]), batch.targets.flatten()[learnt]
        old = batch.replayed
        answers = batch.targets if old is None else batch.targets.masked_fill(old, IGNORE)
        weights = answer_weights(answers, exponent=self.length_exponent)
        losses["answer"] = weighted_cross_entropy(logits, targets, weights.flatten()[learnt], label_smoothing=smooth)
        if old is not None:
            losses["replay"] = weighted_cross_entropy(
                logits, targets, old.flatten()[learnt].float(), label_smoothing=smooth
            )
        return losses

    def step_cost(self, batch: OmniBatch) -> Cost:
        """Thinker and projectors, and what of the media was encoded: all, or of frozen encoders what was not remembered."""
        (B, T), model = batch.ids.shape, self.model
        predicted = B * T if batch.target_indices is None else len(batch.target_indices)
        images = 0 if batch.images is None else len(batch.images)
        clips = [] if batch.mel is None else [(batch.mel.shape[0], batch.mel.shape[1])]
        heard = sum(count * audio_tokens(model, [frames])[0] for count, frames in clips)
        cost = flops.thinker(model.thinker, B, T, predicted=predicted)
        cost += flops.projectors(model, images * model.image_tokens, heard)
        encoded = (images, clips) if self.cache is None else self.cache.encoded
        return cost + flops.encoders(model, *encoded)

    def target_counts(self, batch: OmniBatch) -> dict[str, Tensor]:
        """Tokens of answers, by their weights, and of replayed documents."""
        learnt = batch.targets != IGNORE
        old = torch.zeros_like(learnt) if batch.replayed is None else batch.replayed
        weights = answer_weights(batch.targets.masked_fill(old, IGNORE), exponent=self.length_exponent)
        return {"answer": weights.sum(), "replay": (learnt & old).sum(), "balance": (batch.ids != PAD).sum()}

    def export_modules(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self.model.named_children() if module is not None}

    def bundled_modules(self) -> dict[str, nn.Module]:
        """Talker, codec and, if the Talker is told states, its Thinker, so that the model can speak. A warning where they are
        gone by now: the training is not lost."""
        if self.talker is None:
            return {}
        try:
            modules = self.talker.load().modules
        except (OSError, ValueError) as error:
            log.warning("the model is written without its voice: %s", error)
            return {}
        return {name: modules[name] for name in ("talker", "codec", "talker_thinker") if name in modules}

    def export_metadata(self) -> dict[str, Any]:
        """Frontends and tokenizer, and the Talker's own metadata."""
        spoken = {} if self.talker is None else self.talker.metadata
        return {k: v for k, v in spoken.items() if k != "run"} | super().export_metadata()


def joined(
    thinker: Export, vision: Export | None, audio: Export | None, *, image_projector: ImageProjector,
    audio_projector: AudioProjector, encode: Callable[[str], list[int]],
) -> Omni:  # fmt: skip
    """The modules of exports as one model. Raises ValueError where the projector wants words and the encoder writes none."""
    hearing = None if audio is None else cast("AudioEncoder", audio.modules["audio"])
    if audio is not None and hearing is not None and audio_projector.words and not hearing.num_symbols:
        raise ValueError(
            f"{audio.folder}: its audio encoder has no CTC head that reads words: give backbone.projector.audio.words=false"
        )
    return Omni(
        thinker=cast("Thinker", thinker.modules["thinker"]),
        vision=None if vision is None else cast("ImageEncoder", vision.modules["vision"]),
        image_projector=None if vision is None else image_projector,
        audio=hearing,
        audio_projector=None if hearing is None else audio_projector,
        read_words=None if hearing is None else WordReader(encode, hearing.characters),
    )
