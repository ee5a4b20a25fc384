"""Labels shifted by one: the loss is that of the current token, or of the token after the next, instead of the next one; or
class ids are off by one.

The gradient of a cross-entropy with respect to its logits is softmax - target: its smallest entry is the label that the loss
really used, whatever was done to the labels in between, in the datamodule, in the batch or within the loss, and whatever the
weights and the smoothing are. These labels are compared with the tokens of the batch.

Legend: B batch, T tokens or frames, N targets, V vocabulary, K codebooks, E entries.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.symptoms.base import Observe, Symptom, learns
from muomni.batch import OmniBatch, SpeechBatch
from muomni.frontends.char_vocab import encode_characters
from muomni.special_tokens import IGNORE, PAD

UNUSED = -1  # a position without a gradient: no target there
ENOUGH = 4  # labels
MARGIN = 0.2  # of the share of labels that fit: a shift fits better than none
#: Where a label is (in tokens, from the next one on) and by how much its id is changed -> what that is called.
SHIFTS = {
    (-1, 0): "each target is the current token instead of the next",
    (1, 0): "each target is the token after the next",
    (0, 1): "the id of each target is too large by one",
    (0, -1): "the id of each target is too small by one",
}
REMEDY = (
    "Shift exactly once, where the batch is made: logits[t] predicts targets[t], which is token t + 1; class ids begin at the "
    "same number in the data and in the model"
)


@dataclass(kw_only=True)
class ShiftedLabels(Symptom):
    """Labels fit the tokens of the batch clearly better when they are shifted by one, in either direction.

    until: last step that is examined: a shift is there from the beginning.
    """

    until: int
    _heads: set[int] = field(default_factory=set, init=False)
    _labels: Tensor | None = field(default=None, init=False)
    _history: Tensor | None = field(default=None, init=False)
    _done: bool = field(default=False, init=False)

    def observer(self, module: nn.Module) -> Observe | None:
        """A language model by its head, which omni_sft calls for the targets alone."""
        if getattr(module, "architecture", None) == "thinker":
            self._heads.add(id(module.head))
        if learns(module, "talker"):
            return self._observe_talker
        return self._observe if id(module) in self._heads or learns(module, "ocr") else None

    def _observe_talker(self, arguments: tuple[Any, ...], output: Any) -> None:
        self._observe(arguments, output)
        self._history = arguments[2]  # the codes; the model shifts them by itself

    def _observe(self, arguments: tuple[Any, ...], output: Any) -> None:
        """The labels of the loss are read from the gradient, when it comes."""
        self._labels = self._history = None
        logits = output if isinstance(output, Tensor) else output.logits
        if logits.requires_grad and not self._done and not torch.compiler.is_compiling():
            logits.register_hook(self._note)

    def _note(self, gradient: Tensor) -> None:
        least, labels = gradient.detach().min(dim=-1)
        self._labels = torch.where(least < 0, labels, UNUSED)

    def finding(self, stage: Any, batch: Any) -> str | None:
        labels, self._labels, history, self._history = self._labels, None, self._history, None
        self._done = self._done or stage.trainer.global_step > self.until
        if self._done:
            return None
        if labels is None:
            if isinstance(batch, SpeechBatch):
                return _wrong_characters(stage, batch)
            if not hasattr(batch, "targets"):
                return None
            labels = batch.targets.masked_fill(batch.targets == IGNORE, UNUSED)  # of a compiled model
        if history is not None:
            each = [_shift(labels[..., k], history[..., k], offset=0) for k in range(labels.shape[-1])]
            found = [f"{what} in codebook {k}" for k, what in enumerate(each) if what]
            return f"labels are shifted by one: {found[0]}. {REMEDY}" if found else None
        tokens = batch.ids
        if isinstance(batch, OmniBatch) and labels.shape != tokens.shape:
            flat = torch.full_like(tokens.flatten(), UNUSED)
            flat[batch.target_indices] = labels
            labels = flat.view_as(tokens)
        if labels.shape != tokens.shape:  # one label a row: a classifier's
            return None
        mask = getattr(batch, "mask", None)
        what = _shift(labels, tokens, offset=1, segments=None if mask is None else mask.segment_ids)
        return f"labels are shifted by one: {what}. {REMEDY}" if what else None


def _shift(labels: Tensor, tokens: Tensor, *, offset: int, segments: Tensor | None = None) -> str | None:
    """labels (B, T), UNUSED where there is none, should be tokens (B, T) `offset` later, in the same segment (B, T). Returns
    the shift by which they fit, if they fit it clearly better than none."""

    def fit(later: int, change: int) -> tuple[Tensor, Tensor]:
        """How many labels fit, and how many could."""
        distance = offset + later
        now, then = slice(max(0, -distance), None if distance <= 0 else -distance), slice(max(0, distance), None)
        if distance < 0:
            then = slice(0, distance)
        valid = labels[:, now] != UNUSED
        if offset:
            valid = valid & (tokens[:, then] != PAD)
        if segments is not None:
            valid = valid & (segments[:, now] == segments[:, then])
        return (valid & (labels[:, now] == tokens[:, then] + change)).sum(), valid.sum()

    counts = [torch.stack(fit(*shift)) for shift in ((0, 0), *SHIFTS)]
    (unshifted, among), *others = torch.stack(counts).tolist()
    if among < ENOUGH:
        return None
    shares = {what: fits / max(1, number) for what, (fits, number) in zip(SHIFTS.values(), others, strict=True)}
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] > unshifted / among + MARGIN else None


def _wrong_characters(stage: Any, batch: SpeechBatch) -> str | None:
    """Of CTC, whose loss aligns by itself: characters that are those of the texts, but for one id or one row."""
    texts = [encode_characters(text, getattr(stage.model, "characters", None)) for text in batch.texts]
    pairs = zip(batch.characters.tolist(), batch.character_lengths.tolist(), strict=True)
    given = [row[:count] for row, count in pairs][: len(texts)]
    if len(set(map(tuple, texts))) < 2 or given == texts:
        return None
    cases = {
        "the id of each character is too large by one": [[index + 1 for index in text] for text in texts],
        "the id of each character is too small by one": [[index - 1 for index in text] for text in texts],
        "each clip has the text of the clip before it": texts[-1:] + texts[:-1],
        "each clip has the text of the clip after it": texts[1:] + texts[:1],
    }
    unshifted = _alike(given, texts)
    for what, wrong in cases.items():
        if _alike(given, wrong) > unshifted + 2 * MARGIN:
            return f"labels are shifted by one: {what}. {REMEDY}"
    return None


def _alike(given: list[list[int]], texts: list[list[int]]) -> float:
    """The share of characters that are equal, a mean over the texts; of texts of unequal length none are."""
    shares = [
        sum(a == b for a, b in zip(one, other, strict=True)) / max(1, len(one)) if len(one) == len(other) else 0.0
        for one, other in zip(given, texts, strict=True)
    ]
    return sum(shares) / len(shares)
