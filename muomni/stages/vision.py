"""Contrastive pretraining of the image encoder: image <-> caption.

Two symmetric InfoNCE losses: of whole images and whole captions (Radford et al. 2021, arXiv:2103.00020), and of cells and
words, every word with its best cell (after Yao et al. 2022, arXiv:2111.07783), which teaches what is where. Where a few captions
are those of all images ("a photo of a dog"), images choose among them instead: classification by captions.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import ImageTextBatch
from muomni.distributed import collectives
from muomni.evaluation.vision import VisionEvaluator
from muomni.losses.contrastive import caption_choice, cosine, equal_pairs, info_nce, late_interaction, pair_keys
from muomni.models import flops
from muomni.models.conv_vision import ConvEncoder
from muomni.models.encoders import ImageEncoder
from muomni.models.outputs import TextTowerOutput
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower
from muomni.nn.flops import Cost, linear, product
from muomni.stages.base import Stage
from muomni.stages.encoder_rate import WHOLE, EncoderRate
from muomni.stages.training_options import TrainingOptions

SCORES = ("late", "global", "captions")
SCALES = 2  # learned temperatures: of whole images, of cells and words


class VisionStage(EncoderRate, Stage):
    """Symmetric InfoNCE with learned, clamped temperatures. Equal captions, and equal images, of a batch are no negatives.

    Args:
        evaluator: model, text_tower, image_head, and `late` -> what measures them.
        score: "late" trains both losses, and similarity is that of cells and words; "global" is plain CLIP; "captions" is the
            cross-entropy of images over the distinct captions of the batch.
        label_smoothing: of score "captions". lr_multipliers: see `EncoderRate`.
        temperature: at the start. min_temperature: the lowest.
        image, tokenizer, tokenizer_fingerprint: metadata of the datamodule.
    """

    name = "vision"
    loss_names = ("global", "late", "captions")
    model: ImageEncoder

    def __init__(
        self,
        *,
        model: ImageEncoder,
        text_tower: TextTower,
        image_head: ImageHead,
        evaluator: Callable[..., VisionEvaluator],
        score: str,
        temperature: float,
        min_temperature: float,
        image: Mapping[str, Any],
        tokenizer: Path,
        tokenizer_fingerprint: str,
        training: TrainingOptions,
        label_smoothing: float = 0.0,
        lr_multipliers: Mapping[str, float] = WHOLE,
    ) -> None:
        if score not in SCORES:
            raise ValueError(f"score={score!r}; available: {', '.join(SCORES)}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"module.label_smoothing={label_smoothing}: a share, at least 0 and below 1")
        if label_smoothing and score != "captions":
            raise ValueError(f"module.label_smoothing={label_smoothing}: contrastive=captions alone reads it")
        measured = evaluator(model=model, text_tower=text_tower, image_head=image_head, late=score == "late")
        metadata = {"image": dict(image), "tokenizer": tokenizer_fingerprint}
        super().__init__(training, model=model, evaluator=measured, metadata=metadata, tokenizer=tokenizer)
        self.text_tower, self.image_head, self.score = text_tower, image_head, score
        self.label_smoothing = label_smoothing
        self.log_scales = nn.Parameter(torch.full((SCALES,), math.log(1 / temperature)))
        self.max_log_scale = math.log(1 / min_temperature)
        self.rate_encoder(model, lr_multipliers)

    def optional_modules(self) -> dict[str, nn.Module]:
        """Modules that only the late loss reads."""
        return {"image_tokens": self.image_head.token_head, "text_tokens": self.text_tower.token_head}

    def used_modules(self, batch: ImageTextBatch) -> set[str]:
        """All of them, or none."""
        return set(self.optional_modules()) if self.score == "late" else set()

    def compiled_modules(self) -> list[nn.Module]:
        """The encoder; captions differ in length from batch to batch."""
        return [self.model]

    def step(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        """`captions` where that is the score; else `global` and, unless score is "global", `late`."""
        whole, cells = self.image_head(self.model(batch.images))
        text: TextTowerOutput = self.text_tower(batch.ids, batch.lengths)
        scales = self._log_scales().exp()
        # Every image is compared with the captions of all ranks.
        keys = pair_keys(batch.images, batch.ids, batch.lengths)
        images, captions = (collectives.all_gather_cat(each) for each in keys)
        whole, pooled = collectives.all_gather_cat(whole.float()), collectives.all_gather_cat(text.pooled.float())
        if self.score == "captions":
            similarity = cosine(whole, pooled)
            return {"captions": caption_choice(similarity, scales[0], captions, smoothing=self.label_smoothing)}
        equal = equal_pairs(images, captions)
        losses = {"global": info_nce(cosine(whole, pooled), scales[0], equal=equal)}
        if self.score == "late":
            tokens = (collectives.all_gather_cat(each) for each in (cells.float(), text.tokens.float(), text.keep))
            real = batch.real if collectives.world_size() == 1 else None  # of this rank's captions alone
            losses["late"] = info_nce(late_interaction(*tokens, real=real), scales[1], equal=equal)
        return losses

    def step_cost(self, batch: ImageTextBatch) -> Cost:
        """Encoders, heads, and the similarities of this process's batch."""
        images, (captions, length), head = len(batch.images), batch.ids.shape, self.image_head
        width = head.pooled_head.out_features
        cost = flops.vision(self.model, images) + flops.text_tower(self.text_tower, captions, length)
        cost += linear(head.pooled_head, images) + product(images, width, captions)
        if self.score == "late":
            cells = images * head.grid**2
            words = batch.ids.numel() if batch.real is None else len(batch.real)
            return cost + linear(head.token_head, cells) + product(cells, width, words)
        unread = linear(self.text_tower.token_head, captions * length), linear(head.token_head, images * head.grid**2)
        return cost + Cost(unread[1].forward, -unread[0].backward)

    def on_train_batch_start(self, batch: ImageTextBatch, batch_index: int) -> None:
        """A convolutional encoder whitens by the first batch of a training."""
        if self.trainer.global_step == batch_index == 0 and isinstance(self.model, ConvEncoder):
            with collectives.synced_step():
                self.model.whiten(collectives.all_gather_cat(batch.images))

    def _log_scales(self) -> Tensor:
        """Within the limit, with the gradient of what is beyond it: a clamp's gradient there is 0, and would stay so."""
        return self.log_scales + (self.log_scales.clamp(max=self.max_log_scale) - self.log_scales).detach()

    def on_train_batch_end(self, *_: Any) -> None:
        """The parameter itself stays within the limit, so that the way back is not long (as in CLIP's code)."""
        with torch.no_grad():
            self.log_scales.clamp_(max=self.max_log_scale)

    def export_modules(self) -> dict[str, nn.Module]:
        """The encoder; the text side too, for retrieval."""
        return {"vision": self.model, "text_tower": self.text_tower, "image_head": self.image_head}
