"""Short answers by one teacher-forced pass: right where every token is the most likely one, which is greedy decoding; and the
same for models that know less.

Legend: B batch, T tokens.
"""

from collections.abc import Collection, Iterator

from torch import Tensor

from muomni.batch import OmniBatch
from muomni.evaluation.controls import media_controls
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.thinker import Thinker
from muomni.special_tokens import IGNORE


def teacher_forced_answers(
    model: Omni, batch: OmniBatch, features: MediaFeatures
) -> tuple[list[bool], list[list[int]]]:
    """For each row whether greedy decoding would give its answer, and the most likely ids when the true answer is fed."""
    most_likely = model.thinker(batch.ids, embeddings=model.embed(batch.ids, features=features)).logits.argmax(dim=-1)
    learnt = batch.targets != IGNORE
    return _right(most_likely, batch), [row[keep].tolist() for row, keep in zip(most_likely, learnt, strict=True)]


def control_answers(
    model: Omni,
    reference: Thinker | None,
    batch: OmniBatch,
    features: MediaFeatures,
    *,
    audio_tasks: Collection[str] = (),
) -> Iterator[tuple[str, str, list[bool]]]:
    """(control, task that it belongs to, whether each row's answer is right): media zeroed and media of other items, for
    questions about images and the tasks `audio_tasks`; and the Thinker as it came to the stage, `reference`; None: not known."""
    if "plain" in batch.tasks and reference is not None:
        most_likely = reference(embeddings=reference.embedding(batch.ids)).logits.argmax(dim=-1)
        yield "before", "plain", _right(most_likely, batch)
    tasks = {*audio_tasks, *(["image_qa"] if features.images is not None else [])} & set(batch.tasks)
    if tasks:
        for control, other in media_controls(features).items():
            right = teacher_forced_answers(model, batch, other)[0]
            yield from ((control, task, right) for task in sorted(tasks))


def _right(most_likely: Tensor, batch: OmniBatch) -> list[bool]:
    """Most likely ids (B, T) -> whether they are the targets of each row."""
    return ((most_likely == batch.targets) | (batch.targets == IGNORE)).all(dim=1).tolist()
