"""F1 of the objects that captions name."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

Thing = Mapping[str, object]


class ObjectSetF1:
    """Objects named in captions against the true ones: a multiset of (size, colour, shape), over all captions (micro F1).

    The words are those of the truths it is given: nothing is known of a world beforehand.
    """

    def __init__(self) -> None:
        self.captions: list[str] = []
        self.truths: list[Sequence[Thing]] = []

    def add(self, caption: str, truth: Sequence[Thing]) -> None:
        """One caption and the objects of its image: "size", "colour" (None in a grey image), "shape"."""
        self.captions.append(caption)
        self.truths.append(truth)

    def value(self) -> float:
        """In percent; NaN without captions."""
        words = {key: sorted({str(thing[key]) for each in self.truths for thing in each if thing.get(key)}) for key in
                 ("size", "colour", "shape")}  # fmt: skip
        if not words["shape"]:
            return float("nan")
        size, colour, shape = ("|".join(map(re.escape, words[key])) or "(?!)" for key in ("size", "colour", "shape"))
        pattern = re.compile(rf"\b(?:({size}) )?(?:({colour}) )?({shape})\b")
        hits = named = true = 0
        for caption, truth in zip(self.captions, self.truths, strict=True):
            said = Counter(tuple(match) for match in pattern.findall(caption))
            held = Counter(tuple(str(thing.get(key) or "") for key in ("size", "colour", "shape")) for thing in truth)
            hits += (said & held).total()
            named += said.total()
            true += held.total()
        return 100 * 2 * hits / max(1, named + true)
