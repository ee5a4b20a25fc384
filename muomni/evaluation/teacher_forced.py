"""Short answers judged by one teacher-forced pass, which is greedy decoding where every token is the likeliest; and the same
for models that know less.

Legend: B batch, T tokens.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from muomni.batch import OmniBatch
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.thinker import Thinker
from muomni.special_tokens import IGNORE


def likely_answers(model: Omni, batch: OmniBatch, features: MediaFeatures) -> tuple[list[bool], list[list[int]]]:
    """Whether each row's answer would come out, and the ids that come out when the true answer is fed."""
    likeliest = model.thinker(batch.ids, embeddings=model.embed(batch.ids, features=features)).logits.argmax(dim=-1)
    learnt = batch.targets != IGNORE
    return _right(likeliest, batch), [row[keep].tolist() for row, keep in zip(likeliest, learnt, strict=True)]


def controls(
    model: Omni, before: Thinker | None, batch: OmniBatch, features: MediaFeatures
) -> Iterator[tuple[str, str, list[bool]]]:
    """(control, task that it belongs to, whether each row's answer would come out): pictures zeroed, pictures of other
    items, and the Thinker as it came to the stage, `before`; None: not known."""
    if "plain" in batch.tasks and before is not None:
        likeliest = before(embeddings=before.embedding(batch.ids)).logits.argmax(dim=-1)
        yield "before", "plain", _right(likeliest, batch)
    if "image_qa" in batch.tasks and features.images is not None:
        blind = replace(features, images=torch.zeros_like(features.images))
        # Half a batch away: neighbours are complementary pairs.
        other = replace(features, images=features.images.roll(max(1, len(features.images) // 2), dims=0))
        yield "blind", "image_qa", likely_answers(model, batch, blind)[0]
        yield "shuffled", "image_qa", likely_answers(model, batch, other)[0]


def _right(likeliest: Tensor, batch: OmniBatch) -> list[bool]:
    """likeliest ids (B, T) -> whether they are the targets of each row."""
    return ((likeliest == batch.targets) | (batch.targets == IGNORE)).all(dim=1).tolist()
