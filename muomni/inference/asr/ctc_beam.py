"""CTC prefix beam search with shallow fusion of a language model (Graves 2012, "Sequence transduction with recurrent neural
networks"; Hannun et al. 2014, arXiv:1408.2873).

A prefix is a string of symbols; its probability is the sum over all alignments that collapse to it, kept separately for those
that end in a blank: only after a blank may the same symbol repeat. Prefixes form a tree, so that two ways to the same string
meet in one node, and the language model scores each once.

Not pyctcdecode, which needs numpy below 2, nor torchaudio's decoder, which needs the compiled flashlight-text.

Legend: T frames, S symbols with the blank at 0. Probabilities are natural logarithms.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import exp, inf, log1p
from typing import Any, Protocol

from torch import Tensor

from muomni.frontends.char_vocab import BLANK


class LanguageModel(Protocol):
    """Scores symbols one by one; its states are immutable values."""

    @property
    def start(self) -> Hashable:
        """The state before the first symbol."""
        ...

    def advance(self, state: Any, symbol: int) -> tuple[Hashable, float]:
        """The state after a symbol, and the log-probability, at most 0, that the symbol adds."""
        ...

    def end(self, state: Any) -> float:
        """Log-probability of the end of the text."""
        ...


@dataclass(frozen=True, slots=True)
class CtcHypothesis:
    """ids of the symbols; acoustic: CTC log-probability over all alignments; language: that of the language model, the end
    included (0 without one); score: the ranking criterion."""

    ids: tuple[int, ...]
    acoustic: float
    language: float
    score: float


@dataclass(slots=True, eq=False)
class _Prefix:
    """A node of the tree: a prefix, the sums of its alignments, and its expanded children."""

    parent: "_Prefix | None"
    symbol: int
    length: int
    state: Any
    language: float
    blank: float = -inf  # log sum of the alignments that end in a blank
    other: float = -inf  # log sum of those that end in its last symbol
    children: dict[int, "_Prefix"] = field(default_factory=dict)

    def ids(self) -> tuple[int, ...]:
        symbols: list[int] = []
        node: _Prefix = self
        while node.parent is not None:
            symbols.append(node.symbol)
            node = node.parent
        return tuple(reversed(symbols))


def logaddexp(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    if first < second:
        first, second = second, first
    return first if second == -inf else first + log1p(exp(second - first))


class CtcBeamSearch:
    """Callable: log-probabilities (T, S) -> hypotheses, best first, at most `beams`.

    Prefixes are ranked by acoustic + lm_weight x language + bonus x number of symbols (the bonus compensates for the language
    model's preference for short texts).

    Args:
        beams: prefixes kept after each frame. floor: symbols below this log-probability start no new prefix in a frame; -inf:
        all
            do, and with enough beams the acoustic sums are exact.
    """

    def __init__(
        self, *, beams: int, lm: LanguageModel | None, lm_weight: float, bonus: float, floor: float = -9.0
    ) -> None:
        if beams < 1:
            raise ValueError(f"beams={beams}: at least 1 is needed")
        self.beams, self.lm, self.lm_weight, self.bonus, self.floor = beams, lm, lm_weight, bonus, floor
        self.prunes = lm is None or lm_weight >= 0

    def __call__(self, log_probs: Tensor) -> list[CtcHypothesis]:
        """(T, S) -> at least one hypothesis; the empty text for T = 0."""
        root = _Prefix(None, BLANK, 0, None if self.lm is None else self.lm.start, 0.0, blank=0.0)
        beams = [root]
        for frame in log_probs.tolist():
            beams = self._step(beams, frame)
        return sorted(map(self._finish, beams), key=lambda hypothesis: -hypothesis.score)

    def _step(self, beams: list[_Prefix], frame: list[float]) -> list[_Prefix]:
        sums = self._staying(beams, frame)  # [blank, other] after this frame
        # The best scores so far, of unlike prefixes: what is below the worst of a full heap is not among the best in the end.
        best = [self._score(node, logaddexp(*both)) for node, both in sums.items()]
        heapq.heapify(best)
        open_symbols = [(p, symbol) for symbol, p in enumerate(frame) if symbol != BLANK and p > self.floor]
        open_symbols.sort(key=lambda each: -each[0])
        for node in beams:
            total = logaddexp(node.blank, node.other)
            bound = self._score(node, total) + self.bonus  # a language model's log-probabilities are at most 0
            for p, symbol in open_symbols:
                if self.prunes and len(best) >= self.beams and bound + p < best[0]:
                    break
                # A repeated symbol is a new one only after a blank.
                before = node.blank if node.parent is not None and symbol == node.symbol else total
                child = self._child(node, symbol) if before > -inf else None
                if child is None or child in sums:
                    continue
                sums[child] = [-inf, before + p]
                score = self._score(child, before + p)
                heapq.heappush(best, score) if len(best) < self.beams else heapq.heappushpop(best, score)
        ranked = sorted(sums.items(), key=lambda item: -self._score(item[0], logaddexp(*item[1])))
        for node, (blank, other) in ranked[: self.beams]:
            node.blank, node.other = blank, other
        return [node for node, _ in ranked[: self.beams]]

    def _staying(self, beams: list[_Prefix], frame: list[float]) -> dict[_Prefix, list[float]]:
        """What this frame adds to the prefixes that are there: a blank, their last symbol again, or that symbol after their
        parent, if it is there too."""
        totals = {node: logaddexp(node.blank, node.other) for node in beams}
        sums = {}
        for node, total in totals.items():
            other = -inf
            if node.parent is not None:
                p, parent = frame[node.symbol], node.parent
                other = node.other + p
                if parent in totals and p > self.floor:
                    again = parent.parent is not None and parent.symbol == node.symbol
                    other = logaddexp(other, (parent.blank if again else totals[parent]) + p)
            sums[node] = [total + frame[BLANK], other]
        return sums

    def _child(self, node: _Prefix, symbol: int) -> _Prefix:
        child = node.children.get(symbol)
        if child is None:
            state, language = None, 0.0
            if self.lm is not None:
                state, language = self.lm.advance(node.state, symbol)
            child = _Prefix(node, symbol, node.length + 1, state, node.language + language)
            node.children[symbol] = child
        return child

    def _score(self, node: _Prefix, acoustic: float) -> float:
        return acoustic + self.lm_weight * node.language + self.bonus * node.length

    def _finish(self, node: _Prefix) -> CtcHypothesis:
        acoustic = logaddexp(node.blank, node.other)
        language = node.language + (0.0 if self.lm is None else self.lm.end(node.state))
        score = acoustic + self.lm_weight * language + self.bonus * node.length
        return CtcHypothesis(node.ids(), acoustic, language, score)
