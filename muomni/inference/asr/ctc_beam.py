"""CTC prefix beam search, with a language model that speaks as symbols come (Graves 2012, "Sequence transduction with
recurrent neural networks"; Hannun et al. 2014, arXiv:1408.2873).

A prefix is a string of symbols; its probability is the sum over all alignments that collapse to it, kept apart by whether
they end in a blank: only from there may the same symbol come again. Prefixes live in a tree, so that two ways to the same
string meet in one node and each is scored by the language model once.

Not pyctcdecode, which needs numpy below 2, nor torchaudio's decoder, which needs the compiled flashlight-text.

Legend: T frames, S symbols with the blank at 0. Probabilities are natural logarithms.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import exp, inf, log1p
from typing import Any, Protocol

from torch import Tensor

from muomni.frontends.char_vocab import BLANK


class LanguageModel(Protocol):
    """Scores symbols one after the other; its states are values, never changed in place."""

    @property
    def start(self) -> Hashable:
        """The state before the first symbol."""
        ...

    def advance(self, state: Any, symbol: int) -> tuple[Hashable, float]:
        """The state behind a symbol, and the log-probability that it adds."""
        ...

    def end(self, state: Any) -> float:
        """The log-probability that the text ends here."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """ids of the symbols; acoustic: log-probability by CTC, all alignments; language: by the language model, its end
    included (0 without one); score: what hypotheses are ranked by."""

    ids: tuple[int, ...]
    acoustic: float
    language: float
    score: float


@dataclass(slots=True, eq=False)
class _Prefix:
    """A node of the tree: a prefix, the sums of its alignments, and the children that some beam went to."""

    parent: "_Prefix | None"
    symbol: int
    length: int
    state: Any
    language: float
    blank: float = -inf  # of alignments up to the last frame that end in a blank
    other: float = -inf  # and in its last symbol
    children: dict[int, "_Prefix"] = field(default_factory=dict)

    def ids(self) -> tuple[int, ...]:
        symbols: list[int] = []
        node: _Prefix = self
        while node.parent is not None:
            symbols.append(node.symbol)
            node = node.parent
        return tuple(reversed(symbols))


def add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    if first < second:
        first, second = second, first
    return first if second == -inf else first + log1p(exp(second - first))


class BeamSearch:
    """Callable: log-probabilities (T, S) -> hypotheses, best first, at most `beams`.

    A prefix is ranked by acoustic + lm_weight x language + bonus x its number of symbols (which makes up for the language
    model's preference of short texts).

    Args:
        beams: prefixes kept after each frame. floor: symbols below this log-probability open no new prefix in a frame;
            -inf: none is left out, and with enough beams the acoustic sums are exact.
    """

    def __init__(
        self, *, beams: int, lm: LanguageModel | None, lm_weight: float, bonus: float, floor: float = -9.0
    ) -> None:
        if beams < 1:
            raise ValueError(f"beams={beams}: at least 1 is needed")
        self.beams, self.lm, self.lm_weight, self.bonus, self.floor = beams, lm, lm_weight, bonus, floor

    def __call__(self, log_probs: Tensor) -> list[Hypothesis]:
        """(T, S) -> at least one hypothesis; the empty text for T = 0."""
        root = _Prefix(None, BLANK, 0, None if self.lm is None else self.lm.start, 0.0, blank=0.0)
        beams = [root]
        for frame in log_probs.tolist():
            beams = self._step(beams, frame)
        return sorted(map(self._finish, beams), key=lambda hypothesis: -hypothesis.score)

    def _step(self, beams: list[_Prefix], frame: list[float]) -> list[_Prefix]:
        open_symbols = [(symbol, p) for symbol, p in enumerate(frame) if symbol != BLANK and p > self.floor]
        sums: dict[_Prefix, list[float]] = {}  # of the alignments one frame longer: [blank, other]
        for node in beams:
            total = add(node.blank, node.other)
            here = sums.setdefault(node, [-inf, -inf])
            here[0] = add(here[0], total + frame[BLANK])
            if node.parent is not None:
                here[1] = add(here[1], node.other + frame[node.symbol])
            for symbol, p in open_symbols:
                # The same symbol again is a new one only behind a blank.
                before = node.blank if node.parent is not None and symbol == node.symbol else total
                if before > -inf:
                    there = sums.setdefault(self._child(node, symbol), [-inf, -inf])
                    there[1] = add(there[1], before + p)
        ranked = sorted(sums.items(), key=lambda item: -self._rank(item[0], add(*item[1])))
        for node, (blank, other) in ranked[: self.beams]:
            node.blank, node.other = blank, other
        return [node for node, _ in ranked[: self.beams]]

    def _child(self, node: _Prefix, symbol: int) -> _Prefix:
        child = node.children.get(symbol)
        if child is None:
            state, language = None, 0.0
            if self.lm is not None:
                state, language = self.lm.advance(node.state, symbol)
            child = _Prefix(node, symbol, node.length + 1, state, node.language + language)
            node.children[symbol] = child
        return child

    def _rank(self, node: _Prefix, acoustic: float) -> float:
        return acoustic + self.lm_weight * node.language + self.bonus * node.length

    def _finish(self, node: _Prefix) -> Hypothesis:
        acoustic = add(node.blank, node.other)
        language = node.language + (0.0 if self.lm is None else self.lm.end(node.state))
        score = acoustic + self.lm_weight * language + self.bonus * node.length
        return Hypothesis(node.ids(), acoustic, language, score)
