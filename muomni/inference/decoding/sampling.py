"""From logits to the next token.

What a row draws is a pure function of its seed and of how many tokens were drawn before: no generator that rows of a batch
share, and nothing to save or to roll back.

Shapes: B rows, V vocabulary, C tokens on the short list.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from muomni.short_repr import shown
from muomni.special_tokens import EOS, PAD, PIECES

COLDEST = 1e-5
BROKEN = PAD  # is chosen where the model's numbers are NaN or Inf, and ends an answer; no answer holds it
NOT_FINITE = (
    "the model's numbers are NaN or Inf: its weights are broken or too large; train it again, or use another export"
)
LARGEST_SEED = 2**62
MOST_BEAMS = 64


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How an answer is chosen. `preset` gives the named ones.

    Raises ValueError naming the option for a value of the wrong kind or out of range.
    """

    temperature: float  # 0 is greedy
    top_k: int  # 0 is off
    top_p: float  # 1 is off
    min_p: float  # share of the best token's probability; 0 is off
    repetition_penalty: float  # of tokens that were read or written; 1 is off (Keskar et al. 2019, arXiv:1909.05858)
    max_new_tokens: int | None  # None: until the context is full
    seed: int  # see `row_seeds` for the rows of a batch
    stop: tuple[str, ...]  # the answer ends before any of these
    num_beams: int  # 1 is off; more: beam search (inference/beam_search.py), without chance
    length_penalty: float  # of beam search: the sum of log-probabilities is divided by length ** this

    def __post_init__(self) -> None:
        many = isinstance(self.stop, list | tuple)
        stop = tuple(self.stop) if many else (self.stop,)
        object.__setattr__(self, "stop", stop)
        for name, (kind, holds, allowed) in LIMITS.items():
            value = getattr(self, name)
            if name == "max_new_tokens" and value is None:
                continue
            right_kind = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
            if not (right_kind and math.isfinite(value) and holds(value)):
                raise ValueError(f"generation: {name}={shown(value, str)} is out of its range: {allowed}")
        if not all(isinstance(word, str) and word for word in stop):
            raise ValueError(f"generation: stop={shown(list(stop))}: strings are needed, none of them empty")
        if self.num_beams > 1 and not self.is_greedy:
            raise ValueError(f"generation: num_beams={self.num_beams} leaves nothing to chance: set temperature=0")

    @property
    def is_greedy(self) -> bool:
        """Whether chance has no say."""
        return self.temperature == 0 or self.top_k == 1


#: Of each number: its kind, whether a value is allowed, and what is allowed in words.
LIMITS: dict[str, tuple[type, Any, str]] = {
    "temperature": (float, lambda value: value >= 0, "0 (greedy) or more"),
    "top_k": (int, lambda value: value >= 0, "a whole number, 0 (off) or more"),
    "top_p": (float, lambda value: 0 < value <= 1, "above 0, at most 1 (off)"),
    "min_p": (float, lambda value: 0 <= value < 1, "from 0 (off) to below 1"),
    "repetition_penalty": (float, lambda value: value > 0, "above 0; 1 is off"),
    "max_new_tokens": (int, lambda value: value >= 1, "a whole number, at least 1, or null: until the context is full"),
    "seed": (int, lambda value: 0 <= value <= LARGEST_SEED, "a whole number from 0 to 2 ** 62"),
    "num_beams": (int, lambda value: 1 <= value <= MOST_BEAMS, f"a whole number from 1 (off) to {MOST_BEAMS}"),
    "length_penalty": (float, lambda value: value >= 0, "0 (none) or more; 1 ranks by the mean"),
}


_GREEDY = GenerationOptions(
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repetition_penalty=1.0,
    max_new_tokens=100,
    seed=0,
    stop=(),
    num_beams=1,
    length_penalty=1.0,
)
PRESETS = {
    "greedy": _GREEDY,
    "balanced": replace(_GREEDY, temperature=0.7, top_p=0.9, max_new_tokens=50),
    "chat": replace(_GREEDY, temperature=0.8, top_k=40, top_p=0.95, max_new_tokens=100),
    "beam": replace(_GREEDY, num_beams=4),
}


def preset(name: str, **changes: Any) -> GenerationOptions:
    """A preset (greedy, balanced, chat, beam), some options changed. Raises ValueError for unknown names."""
    if name not in PRESETS:
        raise ValueError(f"unknown generation preset {shown(name)}; available: {', '.join(PRESETS)}")
    known = [field.name for field in fields(GenerationOptions)]
    for key in changes:
        if key not in known:
            raise ValueError(f"unknown generation option {shown(key)}; available: {', '.join(known)}")
    return replace(PRESETS[name], **changes)


def refuse_idle_options(options: GenerationOptions, given: Mapping[str, Any]) -> None:
    """Raise ValueError naming an option that was given and has no effect on how these answers are chosen."""
    chance = ("top_k", "top_p", "min_p", "seed") if options.is_greedy and options.top_k != 1 else ()
    off = {name: getattr(_GREEDY, name) for name in (*chance, *(("length_penalty",) if options.num_beams == 1 else ()))}
    idle = [name for name, value in off.items() if name in given and given[name] != value]
    if idle:
        remedy = "num_beams=4" if idle == ["length_penalty"] else "temperature=0.7"
        raise ValueError(
            f"{', '.join(f'{name}={given[name]}' for name in idle)}: without effect, since nothing is left to chance at "
            f"temperature={options.temperature:g} num_beams={options.num_beams}: leave it out, or set {remedy}"
        )


def row_seeds(seed: int, prompts: Sequence[bytes]) -> Tensor:
    """The seeds (B) of a batch's rows. Row i draws what `seed + i` draws alone; a row whose prompt stands in an earlier row draws
    from a hash of seed and place, so that many samples of one prompt, over neighbouring seeds, share no stream."""
    earlier: set[bytes] = set()
    seeds = []
    for row, prompt in enumerate(prompts):
        digest = hashlib.sha256(f"{seed} {row}".encode()).digest()
        seeds.append(int.from_bytes(digest[:8]) % LARGEST_SEED if prompt in earlier else seed + row)
        earlier.add(prompt)
    return torch.tensor(seeds, dtype=torch.long)


def shortlist(
    logits: Tensor, *, temperature: float, top_k: int, top_p: float, min_p: float
) -> tuple[Tensor, Tensor | None]:
    """logits (B, V) -> shares (B, C) of the tokens that remain after temperature, top-k, top-p and min-p, not normalised,
    and their ids (B, C), likeliest first; None where C = V in the vocabulary's order.

    top-p (Holtzman et al. 2020, arXiv:1904.09751) drops a token when the mass before it exceeds p: the one that crosses
    p stays. min-p (Nguyen et al. 2024, arXiv:2407.01082) drops what has less than its share of the best.
    """
    scaled, ids = logits.float() / max(temperature, COLDEST), None
    if 0 < top_k < scaled.shape[1]:
        scaled, ids = scaled.topk(top_k, dim=1)
    elif top_p < 1:
        scaled, ids = scaled.sort(dim=1, descending=True)
    share = scaled.softmax(dim=1)
    if top_p < 1:
        share = share.masked_fill(share.cumsum(dim=1) - share > top_p, 0.0)
    if min_p > 0:
        share = share.masked_fill(share < min_p * share.amax(dim=1, keepdim=True), 0.0)
    return share, ids


def probabilities(logits: Tensor, *, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """logits (B, V) -> the probabilities (B, V) that `choose` draws from."""
    share, ids = shortlist(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    if ids is not None:
        share = torch.zeros_like(logits, dtype=share.dtype).scatter(1, ids, share)
    return share / share.sum(dim=1, keepdim=True)


def uniforms(seeds: Tensor, drawn: int | Tensor) -> Tensor:
    """seeds (B) int64 -> (B) float32 in [0, 1): number `drawn` of each seed's stream, the same on every device.

    SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), which can be entered at any place.
    """
    x = seeds + (torch.zeros_like(seeds) + drawn + 1) * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(x ^ _shifted(x, 31), 40).float() * 2.0**-24


def _signed(constant: int) -> int:
    return constant - 2**64 if constant >= 2**63 else constant


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Right, zeros coming in: torch's own shift of int64 keeps the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def admissible(logits: Tensor, *, penalty: float | Tensor, seen: Tensor | None) -> Tensor:
    """logits (B, V) -> float32: minus infinity for special tokens, which no answer holds, and those seen made unlikelier."""
    logits = logits.float().clone()
    logits[:, :EOS] = -torch.inf
    logits[:, EOS + 1 : len(PIECES)] = -torch.inf
    if seen is not None:
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    return logits


def choose(logits: Tensor, *, options: GenerationOptions, uniform: Tensor | None, seen: Tensor | None = None) -> Tensor:
    """logits (B, V) -> the next ids (B); BROKEN for a row whose numbers are not finite. A pure function of tensors, so that it
    can be a part of a compiled step.

    uniform: (B) in [0, 1), what chance gives each row; None under greedy. seen: (B, V) bool: the repetition penalty falls
    on these tokens.
    """
    logits = admissible(logits, penalty=options.repetition_penalty, seen=seen)
    if options.is_greedy:
        best, likeliest = logits.max(dim=1)
        return torch.where(best < torch.inf, likeliest, BROKEN)
    assert uniform is not None, "sampling needs a number of each row's stream"
    share, ids = shortlist(
        logits, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p
    )
    mass = share.cumsum(dim=1)
    place = (
        (mass <= uniform[:, None] * mass[:, -1:]).sum(dim=1).clamp_max(mass.shape[1] - 1)
    )  # beyond it for no mass at all
    drawn = place if ids is None else ids.gather(1, place[:, None])[:, 0]
    return torch.where(mass[:, -1] > 0, drawn, BROKEN)  # also for NaN


class Sampler:
    """Chooses tokens by `options`; remembers what each row holds, for the repetition penalty.

    drawn: how many numbers of the rows' streams are used already, so that turns of a conversation draw different ones.
    seeds: (B) of the rows; default: seed + row.
    """

    def __init__(
        self, options: GenerationOptions, *, device: torch.device | str, drawn: int = 0, seeds: Tensor | None = None
    ) -> None:
        self.options, self.device, self.drawn = options, device, drawn
        self._seeds = None if seeds is None else seeds.to(device)
        self.seen: Tensor | None = None  # B V bool

    def note(self, ids: Tensor, vocab_size: int) -> None:
        """Count ids (B, T) as present in their rows; special tokens never count."""
        if self.options.repetition_penalty == 1:
            return
        if self.seen is None:
            self.seen = torch.zeros(ids.shape[0], vocab_size, dtype=torch.bool, device=ids.device)
        self.seen.scatter_(1, ids, True)
        self.seen[:, : len(PIECES)] = False

    def seeds(self, rows: int) -> Tensor:
        """(rows) long."""
        return torch.arange(rows, device=self.device) + self.options.seed if self._seeds is None else self._seeds

    def uniform(self, rows: int) -> Tensor:
        """(rows) in [0, 1): the next number of each row's stream."""
        self.drawn += 1
        return uniforms(self.seeds(rows), self.drawn - 1)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> next ids (B)."""
        uniform = None if self.options.is_greedy else self.uniform(len(logits))
        ids = choose(logits, options=self.options, uniform=uniform, seen=self.seen)
        self.note(ids[:, None], logits.shape[1])
        return ids
