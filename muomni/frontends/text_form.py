"""How a text is written before a model reads or writes it: a named choice (`text=`), the same in training and at
inference. An export names it, with a fingerprint of what it does, since Unicode's tables differ between versions of Python.

    as_is           as it is
    lower           in lower case
    basic_english   in lower case, letters without marks; what is no letter a-z, digit or apostrophe within a word is a space

A model trained without the choice has none: documents are as they are, transcripts as `datamodule.lowercase` says.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

#: Characters by which a form is recognised: Latin, Greek and Cyrillic with their marks, signs, and texts with both.
PROBE = (
    "".join(map(chr, [*range(0x20, 0x530), *range(0x1E00, 0x2030)]))
    + "It's \u201cTEN\u201d o'clock \u2013 the dogs' \u0130\u00df!"
)


def as_is(text: str) -> str:
    """The text itself."""
    return text


def lower(text: str) -> str:
    """Lower case by Unicode's rules; spaces and signs stay."""
    return text.lower()


def basic_english(text: str) -> str:
    """Words of a-z, 0-9 and inner apostrophes, separated by single spaces."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'").lower())
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    words = re.sub(r"[^a-z0-9']+", " ", plain)
    return " ".join(re.sub(r"(?<![a-z0-9])'+|'+(?![a-z0-9])", " ", words).split())


FORMS: dict[str, Callable[[str], str]] = {"as_is": as_is, "lower": lower, "basic_english": basic_english}


def form_named(name: str | None) -> Callable[[str], str]:
    """The function of a form; None: none was chosen, texts stay as they are. Raises ValueError for an unknown name."""
    if name is None:
        return as_is
    if name not in FORMS:
        raise ValueError(f"text={name}: available are {', '.join(FORMS)}")
    return FORMS[name]


def form_metadata(name: str) -> dict[str, str]:
    """What an export says of its form."""
    return {"form": name, "fingerprint": hashlib.sha256(form_named(name)(PROBE).encode()).hexdigest()[:16]}


def form_of(metadata: Mapping[str, Any], *, where: str, key: str = "text") -> str | None:
    """The form that an export's metadata names; None where it names none. Raises ValueError for one that is unknown here, or does
    something else than where it was trained."""
    said = metadata.get(key)
    if said is None:
        return None
    name = said.get("form") if isinstance(said, Mapping) else None
    if name not in FORMS or said != form_metadata(name):
        raise ValueError(
            f"{where}: its texts were written in the form {said!r}, which this version does not know or makes otherwise "
            f"(known: {', '.join(FORMS)}): use the version, and the Python, that it was trained with"
        )
    return str(name)
