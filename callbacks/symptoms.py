"""Symptoms of a training that runs but learns nothing, each with a remedy; the doctor (doctor.py) checks them.

A symptom hooks modules of the model in the steps that the doctor examines, and returns a finding. Only `finding` waits
for the device.

Legend: B batch, T time, S symbols, K codebooks, E entries, D width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Observe = Callable[[Any], None]


@dataclass(kw_only=True)
class Symptom(ABC):
    """What the doctor looks for.

    patience: steps for which the finding must last before it is an alarm. A healthy run has some of them at its start.
    """

    patience: int

    def observer(self, module: nn.Module) -> Observe | None:
        """Hook for the output of a registered module (`architecture`), or None."""
        return None

    @abstractmethod
    def finding(self, stage: Any, batch: Any) -> str | None:
        """Problem of the step just examined, with its remedy, or None."""


def _learns(module: nn.Module, architecture: str) -> bool:
    """Whether a module is registered under that name and has trained weights."""
    return getattr(module, "architecture", None) == architecture and any(p.requires_grad for p in module.parameters())


@dataclass(kw_only=True)
class StuckOnBlank(Symptom):
    """CTC predicts only blanks: the trivial minimum in which audio encoders get stuck.

    share: share of blank frames, in (0, 1], from which it is a finding.
    """

    share: float
    _blank: Tensor | None = field(default=None, init=False)

    def observer(self, module: nn.Module) -> Observe | None:
        return self._observe if _learns(module, "audio") else None

    def _observe(self, output: Any) -> None:
        keep = torch.arange(output.logits.shape[1], device=output.logits.device) < output.lengths[:, None]
        self._blank = ((output.logits.argmax(-1) == 0) & keep).sum() / keep.sum().clamp_min(1)

    def finding(self, stage: Any, batch: Any) -> str | None:
        if self._blank is None:
            return None
        share, self._blank = float(self._blank), None
        if share < self.share:
            return None
        return (
            f"CTC is stuck on blank: {100 * share:.1f} % of the frames say nothing. Lower optim.lr or raise "
            "schedule.warmup_steps; look whether the texts belong to the clips (samples/), and whether clips are long enough "
            "for them (audio/train/too_short)"
        )


@dataclass(kw_only=True)
class StuckAtChance(Symptom):
    """A contrastive loss stays at ln(batch): all images are equally similar to all captions.

    losses: names of the losses of `stage.losses`, by stage. margin: relative distance to ln(batch) that counts as chance.
    """

    losses: dict[str, list[str]]
    margin: float

    def finding(self, stage: Any, batch: Any) -> str | None:
        names = [name for name in self.losses.get(stage.name, []) if name in stage.losses]
        chance = math.log(max(len(batch.sample_ids), 2))
        at_chance = [n for n in names if abs(float(stage.losses[n]) - chance) < self.margin * chance]
        if not at_chance:
            return None
        return (
            f"contrastive loss {', '.join(at_chance)} is stuck at ln(batch) = {chance:.2f}: all pairs look alike. Look whether "
            "captions belong to their images and differ from each other; lower optim.lr, raise schedule.warmup_steps or "
            "datamodule.batch_size"
        )


@dataclass(kw_only=True)
class DeadCodes(Symptom):
    """Most entries of a codebook are never used.

    used: smallest share of a codebook's entries that must occur among ten times as many codes, in (0, 1].
    """

    used: float
    _seen: Tensor | None = field(default=None, init=False)
    _frames: int = field(default=0, init=False)
    _last: str | None = field(default=None, init=False)

    def observer(self, module: nn.Module) -> Observe | None:
        if not _learns(module, "codec"):
            return None
        entries = int(module.codebook_size)  # type: ignore[arg-type]
        return lambda output: self._observe(output.codes.flatten(0, -2), entries)

    def _observe(self, codes: Tensor, entries: int) -> None:
        """codes (N, K)."""
        now = torch.zeros(codes.shape[1], entries, dtype=torch.bool, device=codes.device).scatter_(1, codes.T, True)
        self._seen = now if self._seen is None else self._seen | now
        self._frames += len(codes)

    def finding(self, stage: Any, batch: Any) -> str | None:
        """The least used codebook, checked whenever every entry could have been used many times."""
        if self._seen is None or self._frames < 10 * self._seen.shape[1]:
            return self._last
        used, size = self._seen.sum(dim=1).tolist(), self._seen.shape[1]
        self._seen, self._frames = None, 0
        worst = min(range(len(used)), key=used.__getitem__)
        self._last = None
        if used[worst] < self.used * size:
            self._last = (
                f"dead codes: codebook {worst} uses {used[worst]} of its {size} entries. Let codebooks follow averages and "
                "renew idle entries (backbone.codec.decay=0.9 backbone.codec.idle=0.1), lower optim.lr, or take a smaller "
                "backbone.codec.codebook_size"
            )
        return self._last


@dataclass(kw_only=True)
class ScaleMismatch(Symptom):
    """Image or audio tokens have a far larger or smaller norm than text tokens: the Thinker ignores one of the two.

    Norms drift upwards in healthy runs, since the Thinker normalises the input of each block and no loss bounds them.

    loudest, softest: limits on the ratio of the mean norm to that of text.
    """

    loudest: float
    softest: float
    _norms: dict[str, Tensor] = field(default_factory=dict, init=False)

    def observer(self, module: nn.Module) -> Observe | None:
        projector = getattr(module, "architecture", "")
        if projector in ("image_projector", "audio_projector"):
            return lambda output: self._observe(projector.removesuffix("_projector"), output)
        if isinstance(module, nn.Embedding):
            return lambda output: self._observe("text", output)
        return None

    def _observe(self, modality: str, tokens: Tensor) -> None:
        """tokens (..., D)."""
        if tokens.numel():
            self._norms[modality] = tokens.float().norm(dim=-1).mean()

    def finding(self, stage: Any, batch: Any) -> str | None:
        norms, self._norms = {name: float(norm) for name, norm in self._norms.items()}, {}
        if "text" not in norms:
            return None
        for name in ("image", "audio"):
            ratio = norms.get(name, norms["text"]) / max(norms["text"], 1e-12)
            if not self.softest <= ratio <= self.loudest:
                return (
                    f"{name} tokens have {ratio:.3g} times the norm of text embeddings ({norms[name]:.3g} against "
                    f"{norms['text']:.3g}): set backbone.projector.{name}.scale so that they are alike, or raise the "
                    "projectors' rate (module.lr_multipliers.projectors)"
                )
        return None
