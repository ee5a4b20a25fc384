"""Options of generation, their ranges, and the named presets (conf/generation/ has the same)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from muomni.inference.errors import InvalidOption
from muomni.short_repr import shown

MAX_SEED = 2**62
MAX_BEAMS = 64
MAX_BIAS = 100.0
MAX_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How answers are generated; the defaults are greedy decoding, `preset` returns the named ones.

    Raises InvalidOption naming the option for a value of the wrong type or out of range.
    """

    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 is off
    top_p: float = 1.0  # 1 is off
    min_p: float = 0.0  # share of the best token's probability; 0 is off
    # For tokens of the prompt and the answer; 1 is off (Keskar et al. 2019, arXiv:1909.05858).
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = 100  # None: until the context is full
    seed: int = 0  # see `row_seeds` for the rows of a batch
    stop: tuple[str, ...] = ()  # the answer ends before any of these
    num_beams: int = 1  # 1 is off; more: deterministic beam search (beam_search.py)
    length_penalty: float = 1.0  # of beam search: the sum of log-probabilities is divided by length ** length_penalty
    # The following depend on the answer so far (logits_processor.py).
    min_new_tokens: int = 0  # no end token before; a stop string still ends the answer
    no_repeat_ngram: int = 0  # no n tokens occur twice in an answer; 0 is off
    # OpenAI's definitions: frequency_penalty * count + presence_penalty is subtracted from the logit of a token that the answer
    # holds `count` > 0 times.
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)  # token id -> what is added to its logit
    logprobs: int | None = (
        None  # log-probabilities of the generated tokens and of so many most likely ones; None: neither
    )

    def __post_init__(self) -> None:
        stop = tuple(self.stop) if isinstance(self.stop, list | tuple) else (self.stop,)
        object.__setattr__(self, "stop", stop)
        for name, (number_type, in_range, allowed) in LIMITS.items():
            value = getattr(self, name)
            if name in ("max_new_tokens", "logprobs") and value is None:
                continue
            typed = isinstance(value, int if number_type is int else int | float) and not isinstance(value, bool)
            if not (typed and math.isfinite(value) and in_range(value)):
                raise InvalidOption(
                    f"generation: {name}={shown(value, str)} is out of its range: {allowed}", param=name
                )
        if not all(isinstance(word, str) and word for word in stop):
            raise InvalidOption(
                f"generation: stop={shown(list(stop))}: strings are needed, none of them empty", param="stop"
            )
        object.__setattr__(self, "logit_bias", _checked_bias(self.logit_bias))
        if self.num_beams > 1 and not self.is_greedy:
            raise InvalidOption(
                f"generation: num_beams={self.num_beams} is deterministic: set temperature=0", param="num_beams"
            )
        if self.num_beams > 1 and self.logprobs is not None:
            raise InvalidOption(
                f"generation: logprobs={self.logprobs}: beam search returns scores of whole answers only (n_best): leave it "
                "out, or set num_beams=1",
                param="logprobs",
            )
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise InvalidOption(
                f"generation: min_new_tokens={self.min_new_tokens} is over max_new_tokens={self.max_new_tokens}",
                param="min_new_tokens",
            )

    @property
    def is_greedy(self) -> bool:
        """True if decoding is deterministic."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def changes_logits(self) -> bool:
        """True if logits depend on the answer so far, or are biased (logits_processor.py)."""
        return bool(
            self.min_new_tokens
            or self.no_repeat_ngram
            or self.frequency_penalty
            or self.presence_penalty
            or self.logit_bias
        )

    @property
    def needs_eager(self) -> bool:
        """True if each token's logits are needed outside of the step: a compiled one does not return them."""
        return self.changes_logits or self.logprobs is not None

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raise InvalidOption if a token of `logit_bias` is not in the vocabulary."""
        if (largest := max(self.logit_bias, default=0)) >= vocab_size:
            raise InvalidOption(
                f"generation: logit_bias: token {largest} is not in the vocabulary of {vocab_size}", param="logit_bias"
            )


def _checked_bias(bias: Any) -> dict[int, float]:
    """A copy with ids as numbers (in JSON they are strings). Raises InvalidOption."""
    bias = {} if bias is None else bias
    if not isinstance(bias, Mapping):
        raise InvalidOption(
            f"generation: logit_bias={shown(bias)}: token ids and numbers, {{id: bias}}", param="logit_bias"
        )
    checked: dict[int, float] = {}
    for token, value in bias.items():
        whole = isinstance(token, int) and not isinstance(token, bool)
        written = isinstance(token, str) and token.isascii() and token.isdecimal() and len(token) < 10
        if not ((whole and token >= 0) or written):
            raise InvalidOption(f"generation: logit_bias: {shown(token)} is no token id", param="logit_bias")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not -MAX_BIAS <= value <= MAX_BIAS:
            raise InvalidOption(
                f"generation: logit_bias: {shown(value)} of token {shown(token)} is out of its range: from "
                f"-{MAX_BIAS:g} to {MAX_BIAS:g}",
                param="logit_bias",
            )
        checked[int(token)] = float(value)
    return checked


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
    "min_new_tokens": (int, lambda value: value >= 0, "a whole number, 0 (off) or more"),
    "no_repeat_ngram": (int, lambda value: value >= 0, "a whole number, 0 (off) or more"),
    "frequency_penalty": (float, lambda value: -2 <= value <= 2, "from -2 to 2; 0 is off"),
    "presence_penalty": (float, lambda value: -2 <= value <= 2, "from -2 to 2; 0 is off"),
    "logprobs": (
        int,
        lambda value: 0 <= value <= MAX_LOGPROBS,
        f"a whole number from 0 to {MAX_LOGPROBS}, or null: off",
    ),
}


_GREEDY = GenerationOptions()
PRESETS = {
    "greedy": _GREEDY,
    "balanced": replace(_GREEDY, temperature=0.7, top_p=0.9, max_new_tokens=50),
    "chat": replace(_GREEDY, temperature=0.8, top_k=40, top_p=0.95, max_new_tokens=100),
    "beam": replace(_GREEDY, num_beams=4),
}


def preset(name: str, **changes: Any) -> GenerationOptions:
    """A preset (greedy, balanced, chat, beam) with changed options. Raises InvalidOption for unknown names."""
    if name not in PRESETS:
        raise InvalidOption(
            f"unknown generation preset {shown(name)}; available: {', '.join(PRESETS)}", param="generation"
        )
    known = [field.name for field in fields(GenerationOptions)]
    for key in changes:
        if key not in known:
            raise InvalidOption(f"unknown generation option {shown(key)}; available: {', '.join(known)}", param=key)
    return replace(PRESETS[name], **changes)


def reject_unused_options(options: GenerationOptions, given: Mapping[str, Any]) -> None:
    """Raise InvalidOption naming a given option that has no effect under these options."""
    of_sampling = ("top_k", "top_p", "min_p", "seed") if options.is_greedy and options.top_k != 1 else ()
    off = (*of_sampling, *(("length_penalty",) if options.num_beams == 1 else ()))
    unused = [name for name in off if name in given and given[name] != getattr(_GREEDY, name)]
    if unused:
        remedy = "num_beams=4" if unused == ["length_penalty"] else "temperature=0.7"
        raise InvalidOption(
            f"{', '.join(f'{name}={given[name]}' for name in unused)}: without effect, since decoding is deterministic at "
            f"temperature={options.temperature:g} num_beams={options.num_beams}: leave it out, or set {remedy}",
            param=unused[0],
        )
