"""Texts as an independent judge's are compared with the truth: the same words in the same letters on both sides.

Whisper's own English normalizer (in transformers: contractions, fillers, brackets, titles, numbers; British spellings by
`AMERICAN`), between two passes of the project's `normalize_text`, the only function that says numbers and signs in words. The
first says signs that Whisper's rules would drop ("7 - 2 = 5"), the second the digits in which Whisper's rules leave all numbers,
so that "four two nine", "4-2-9" and "429" are one text. Of three digits and more each is said, lest one wrong digit changes the
words of all.
"""

import importlib.util
import re
from functools import cache
from typing import Any

from muomni.evaluation.whisper import INSTALL
from muomni.frontends.text_normalizer import LETTERS, normalize_text

_OUR = re.findall(
    r"\w+",
    "arm behavi clam col dem endeav fav ferv flav glam harb hon hum lab misdemean neighb od parl ranc rig rum sav splend "
    "succ tum val vap vig",
)
_RE = re.findall(r"\w+", "calib cent fib goit lit lust meag met och sab somb spect theat")
_ENDINGS = ("", "s", "ed", "ing", "ful", "less", "able", "ite", "ites", "er", "ers", "hood", "ly")
#: British -> American words. Whisper's own table (english.json) is no part of transformers; this one has the common groups.
AMERICAN: dict[str, str] = {
    **{f"{stem}our{ending}": f"{stem}or{ending}" for stem in _OUR for ending in _ENDINGS},
    **{f"{stem}re{ending}": f"{stem}er{ending}" for stem in _RE for ending in ("", "s", "d")},
    **{f"grey{ending}": f"gray{ending}" for ending in ("", "s", "ish", "er", "est", "ed")},
    "aeroplane": "airplane", "analyse": "analyze", "analysed": "analyzed", "catalogue": "catalog", "cheque": "check",
    "cosy": "cozy", "defence": "defense", "dialogue": "dialog", "jewellery": "jewelry", "licence": "license",
    "mould": "mold", "moustache": "mustache", "offence": "offense", "organise": "organize", "organised": "organized",
    "plough": "plow", "practise": "practice", "programme": "program", "pyjamas": "pajamas", "realise": "realize",
    "realised": "realized", "recognise": "recognize", "recognised": "recognized", "sceptical": "skeptical",
    "storey": "story", "traveller": "traveler", "travelled": "traveled", "travelling": "traveling", "tyre": "tire",
}  # fmt: skip

BRACKETS = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")  # "[BLANK_AUDIO]": what is heard, not said


@cache
def _whisper_normalizer() -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            f"an independent judge's texts are normalized by transformers, which is not installed: {INSTALL}"
        )
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer(AMERICAN)


def judged_text(text: str) -> str:
    """Words in small letters, numbers among them; "" where nothing is said."""
    plain = _whisper_normalizer()(_in_words(BRACKETS.sub(" ", text)))
    return _in_words(re.sub(r"\d{3,}", lambda digits: " ".join(digits[0]), plain))


def _in_words(text: str) -> str:
    return normalize_text(text, LETTERS).text
