"""Tokens of images or audio whose norm is far from that of text."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from callbacks.symptoms.base import Observe, Symptom


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
            return lambda _, output: self._observe(projector.removesuffix("_projector"), output)
        if isinstance(module, nn.Embedding):
            return lambda _, output: self._observe("text", output)
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
