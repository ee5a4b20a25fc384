"""F1 of the objects that captions name."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

Thing = Mapping[str, object]
KEYS = ("size", "colour", "shape")


def object_set_f1(captions: Sequence[str], truths: Sequence[Sequence[Thing]]) -> float:
    """Objects named in captions against those of their images: micro F1, in percent, of a multiset of (size, colour, shape)
    over all captions; NaN without objects.

    truths: "size", "colour" (None in a grey image) and "shape" of each object of each image. The words that count are
    those of the truths: nothing is known of a world beforehand.
    """
    words = {key: sorted({str(thing[key]) for truth in truths for thing in truth if thing.get(key)}) for key in KEYS}
    if not words["shape"]:
        return float("nan")
    size, colour, shape = ("|".join(map(re.escape, words[key])) or "(?!)" for key in KEYS)
    pattern = re.compile(rf"\b(?:({size}) )?(?:({colour}) )?({shape})\b")
    hits = named = true = 0
    for caption, truth in zip(captions, truths, strict=True):
        said = Counter(tuple(match) for match in pattern.findall(caption))
        held = Counter(tuple(str(thing.get(key) or "") for key in KEYS) for thing in truth)
        hits += (said & held).total()
        named += said.total()
        true += held.total()
    return 100 * 2 * hits / max(1, named + true)
