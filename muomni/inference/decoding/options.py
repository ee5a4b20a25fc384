"""Options of generation, their ranges, and the named presets (conf/generation/ has the same)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from muomni.short_repr import shown

MAX_SEED = 2**62
MAX_BEAMS = 64


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How answers are generated; `preset` returns the named ones.

    Raises ValueError naming the option for a value of the wrong type or out of range.
    """

    temperature: float  # 0 is greedy
    top_k: int  # 0 is off
    top_p: float  # 1 is off
    min_p: float  # share of the best token's probability; 0 is off
    repetition_penalty: (
        float  # for tokens of the prompt and the answer; 1 is off (Keskar et al. 2019, arXiv:1909.05858)
    )
    max_new_tokens: int | None  # None: until the context is full
    seed: int  # see `row_seeds` for the rows of a batch
    stop: tuple[str, ...]  # the answer ends before any of these
    num_beams: int  # 1 is off; more: deterministic beam search (beam_search.py)
    length_penalty: float  # of beam search: the sum of log-probabilities is divided by length ** length_penalty

    def __post_init__(self) -> None:
        stop = tuple(self.stop) if isinstance(self.stop, list | tuple) else (self.stop,)
        object.__setattr__(self, "stop", stop)
        for name, (number_type, in_range, allowed) in LIMITS.items():
            value = getattr(self, name)
            if name == "max_new_tokens" and value is None:
                continue
            typed = isinstance(value, int if number_type is int else int | float) and not isinstance(value, bool)
            if not (typed and math.isfinite(value) and in_range(value)):
                raise ValueError(f"generation: {name}={shown(value, str)} is out of its range: {allowed}")
        if not all(isinstance(word, str) and word for word in stop):
            raise ValueError(f"generation: stop={shown(list(stop))}: strings are needed, none of them empty")
        if self.num_beams > 1 and not self.is_greedy:
            raise ValueError(f"generation: num_beams={self.num_beams} is deterministic: set temperature=0")

    @property
    def is_greedy(self) -> bool:
        """True if decoding is deterministic."""
        return self.temperature == 0 or self.top_k == 1


#: Option -> its type, a predicate of its range, and the range in words.
LIMITS: dict[str, tuple[type, Any, str]] = {
    "temperature": (float, lambda value: value >= 0, "0 (greedy) or more"),
    "top_k": (int, lambda value: value >= 0, "a whole number, 0 (off) or more"),
    "top_p": (float, lambda value: 0 < value <= 1, "above 0, at most 1 (off)"),
    "min_p": (float, lambda value: 0 <= value < 1, "from 0 (off) to below 1"),
    "repetition_penalty": (float, lambda value: value > 0, "above 0; 1 is off"),
    "max_new_tokens": (int, lambda value: value >= 1, "a whole number, at least 1, or null: until the context is full"),
    "seed": (int, lambda value: 0 <= value <= MAX_SEED, "a whole number from 0 to 2 ** 62"),
    "num_beams": (int, lambda value: 1 <= value <= MAX_BEAMS, f"a whole number from 1 (off) to {MAX_BEAMS}"),
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
    """A preset (greedy, balanced, chat, beam) with changed options. Raises ValueError for unknown names."""
    if name not in PRESETS:
        raise ValueError(f"unknown generation preset {shown(name)}; available: {', '.join(PRESETS)}")
    known = [field.name for field in fields(GenerationOptions)]
    for key in changes:
        if key not in known:
            raise ValueError(f"unknown generation option {shown(key)}; available: {', '.join(known)}")
    return replace(PRESETS[name], **changes)


def reject_unused_options(options: GenerationOptions, given: Mapping[str, Any]) -> None:
    """Raise ValueError naming a given option that has no effect under these options."""
    of_sampling = ("top_k", "top_p", "min_p", "seed") if options.is_greedy and options.top_k != 1 else ()
    off = (*of_sampling, *(("length_penalty",) if options.num_beams == 1 else ()))
    unused = [name for name in off if name in given and given[name] != getattr(_GREEDY, name)]
    if unused:
        remedy = "num_beams=4" if unused == ["length_penalty"] else "temperature=0.7"
        raise ValueError(
            f"{', '.join(f'{name}={given[name]}' for name in unused)}: without effect, since decoding is deterministic at "
            f"temperature={options.temperature:g} num_beams={options.num_beams}: leave it out, or set {remedy}"
        )
