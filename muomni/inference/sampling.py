"""From logits to the next token.

Shapes: B rows, V vocabulary.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from muomni.special_tokens import EOS, PIECES

COLDEST = 1e-5
FORBIDDEN = [index for index in range(len(PIECES)) if index != EOS]  # no answer holds them


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How an answer is chosen. `preset` gives the named ones."""

    temperature: float  # 0 is greedy
    top_k: int  # 0 is off
    top_p: float  # 1 is off
    min_p: float  # share of the best token's probability; 0 is off
    repetition_penalty: float  # of tokens that were read or written; 1 is off (Keskar et al. 2019, arXiv:1909.05858)
    max_new_tokens: int | None  # None: until the context is full
    seed: int
    stop: tuple[str, ...]  # the answer ends before any of these

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        limits = {
            "temperature": self.temperature >= 0,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p < 1,
            "repetition_penalty": self.repetition_penalty > 0,
            "max_new_tokens": self.max_new_tokens is None or self.max_new_tokens >= 1,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(f"generation: {name}={getattr(self, name)} is out of its range")
        if "" in self.stop:
            raise ValueError("generation: a stop string cannot be empty")

    @property
    def is_greedy(self) -> bool:
        """Whether chance has no say."""
        return self.temperature == 0 or self.top_k == 1


_GREEDY = GenerationOptions(
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repetition_penalty=1.0,
    max_new_tokens=100,
    seed=0,
    stop=(),
)
PRESETS = {
    "greedy": _GREEDY,
    "balanced": replace(_GREEDY, temperature=0.7, top_p=0.9, max_new_tokens=50),
    "chat": replace(_GREEDY, temperature=0.8, top_k=40, top_p=0.95, max_new_tokens=100),
}


def preset(name: str, **changes: Any) -> GenerationOptions:
    """A preset (greedy, balanced, chat), some options changed. Raises ValueError for unknown names."""
    if name not in PRESETS:
        raise ValueError(f"unknown generation preset {name!r}; available: {', '.join(PRESETS)}")
    known = [field.name for field in fields(GenerationOptions)]
    for key in changes:
        if key not in known:
            raise ValueError(f"unknown generation option {key!r}; available: {', '.join(known)}")
    return replace(PRESETS[name], **changes)


def probabilities(logits: Tensor, *, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """logits (B, V) -> probabilities (B, V) after temperature, top-k, top-p and min-p.

    top-p (Holtzman et al. 2020, arXiv:1904.09751) drops a token when the mass before it exceeds p: the one that crosses
    p stays. min-p (Nguyen et al. 2024, arXiv:2407.01082) drops what has less than its share of the best.
    """
    scaled = logits.float() / max(temperature, COLDEST)
    if 0 < top_k < scaled.shape[1]:
        smallest = scaled.topk(top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < smallest, -torch.inf)
    share = scaled.softmax(dim=1)
    if top_p < 1:
        ordered, order = share.sort(dim=1, descending=True)
        drop = ordered.cumsum(dim=1) - ordered > top_p
        share = share.masked_fill(drop.scatter(1, order, drop), 0.0)
    if min_p > 0:
        share = share.masked_fill(share < min_p * share.amax(dim=1, keepdim=True), 0.0)
    return share / share.sum(dim=1, keepdim=True)


class Sampler:
    """Chooses tokens by `options`; remembers what each row holds, for the repetition penalty, and its own generator."""

    def __init__(self, options: GenerationOptions, *, device: torch.device | str) -> None:
        self.options = options
        self.generator = torch.Generator(device=device).manual_seed(options.seed)
        self.forbidden = torch.tensor(FORBIDDEN, device=device)
        self.seen: Tensor | None = None  # B V bool

    def note(self, ids: Tensor, vocab_size: int) -> None:
        """Count ids (B, T) as present in their rows; special tokens never count."""
        if self.options.repetition_penalty == 1:
            return
        if self.seen is None:
            self.seen = torch.zeros(ids.shape[0], vocab_size, dtype=torch.bool, device=ids.device)
        self.seen.scatter_(1, ids, True)
        self.seen[:, : len(PIECES)] = False

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> next ids (B)."""
        options = self.options
        logits = logits.float().index_fill(1, self.forbidden, -torch.inf)
        if self.seen is not None:
            penalty = options.repetition_penalty
            punished = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(self.seen, punished, logits)
        if options.is_greedy:
            ids = logits.argmax(dim=1)
        else:
            share = probabilities(
                logits,
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
                min_p=options.min_p,
            )
            ids = torch.multinomial(share, 1, generator=self.generator)[:, 0]
        self.note(ids[:, None], logits.shape[1])
        return ids
