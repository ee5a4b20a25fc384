"""Written text -> words to speak, in the characters of a Talker, the same in training, evaluation and inference.

English. Numbers, dates, money, units and signs become words (`number_rules.py`), abbreviations what they stand for, Latin
letters with marks the plain ones. Marks of punctuation are not spoken. Anything else (other scripts, emoji) is left
out and named: `NormalizedText.left_out`.

Not nemo_text_processing, which needs pynini, a compiled library of grammars; the words of numbers are num2words'.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from anyascii import anyascii

from muomni.frontends.number_rules import spell_numbers
from muomni.frontends.units import MONEY_CODES, UNIT_WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz '"  # the alphabet of the world's transcripts
SHOWN = 8  # characters that a warning names
LONGEST_PIECE = 300  # characters that the rules see at once
MOST_MARKS = 30  # on one letter (UAX #15, stream-safe text): to order them takes the square of their number

_SAME = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "′": "'", "“": '"', "”": '"', "″": '"', "‐": "-", "‑": "-", "‒": "-",
     "－": "-", "﹣": "-", "…": " ", "—": " ", "―": " ", "№": " number ", "™": " trademark ", "℠": " service mark ",
     "⁻": "−", "µ": "μ", "⁄": "/", "∕": "/", "−": "−", "∶": ":"}
)  # fmt: skip
_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_TITLES = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "messrs": "messers", "dr": "doctor", "prof": "professor",
    "st": "saint",
}  # fmt: skip
_ABBREVIATIONS = {
    "Gen": "general", "Col": "colonel", "Maj": "major", "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant",
    "Rev": "reverend", "Hon": "honorable", "Gov": "governor", "Sen": "senator", "Pres": "president", "Drs": "doctors",
    "Jr": "junior", "Sr": "senior", "Esq": "esquire", "Ave": "avenue", "Rd": "road", "Blvd": "boulevard", "Ltd": "limited",
    "Co": "company", "Corp": "corporation", "Inc": "incorporated", "Mt": "mount", "Ft": "fort", "Dept": "department",
    "dept": "department", "approx": "approximately", "etc": "et cetera", "vs": "versus", "St": "street", "Dr": "drive",
    "Jan": "january", "Feb": "february", "Apr": "april", "Jun": "june", "Jul": "july", "Aug": "august",
    "Sept": "september", "Oct": "october", "Nov": "november", "Dec": "december",
}  # fmt: skip
_BEFORE_NUMBERS = {
    "no": "number", "nos": "numbers", "p": "page", "pp": "pages", "fig": "figure", "ch": "chapter", "vol": "volume",
    "sec": "section", "eq": "equation",
}  # fmt: skip
#: Words that are written with a full stop after them, in lower case; the latter before a number only.
ABBREVIATIONS = frozenset(name.lower() for name in (*_TITLES, *_ABBREVIATIONS, "al", "cf"))
ABBREVIATIONS_BEFORE_NUMBERS = frozenset(_BEFORE_NUMBERS)
_ROMAN = {name: value for value, name in enumerate(
    "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX".split(), 1)}  # noqa: SIM905  # fmt: skip
#: Said letter by letter, though they have vowels.
_SPELLED = (
    "AI|API|ATM|CEO|CFO|CIA|CPU|DIY|DNA|EU|FAQ|FBI|GPU|IBM|ID|IOU|IP|IQ|MIT|NBA|OCR|RNA|UAE|UFO|UI|UK|UN|URL|US|USA|"
    "USB|VIP"
)
_WEEKDAYS = {
    "Mon": "monday", "Tue": "tuesday", "Tues": "tuesday", "Wed": "wednesday", "Thu": "thursday", "Thur": "thursday",
    "Thurs": "thursday", "Fri": "friday", "Sat": "saturday", "Sun": "sunday",
}  # fmt: skip
_NUMBERED = "chapter|part|war|volume|act|book|phase|type|section|scene|appendix"
_RULERS = (
    "Henry|Louis|George|Edward|Charles|James|William|Richard|Elizabeth|Philip|Napoleon|Frederick|Nicholas|Alexander|"
    "Catherine|Benedict|Leo|Pius|Gregory|Clement|Francis|Ivan|Paul"
)
_SIGNS = {
    "<=": "less than or equal to", ">=": "greater than or equal to", "!=": "is not", "->": "to", "=>": "to", "==": "is",
    "≤": "less than or equal to", "≥": "greater than or equal to", "≠": "is not", "≈": "is about", "+": "plus", "=": "is",
    "%": "percent", "&": "and", "@": "at", "‰": "per mille", "±": "plus or minus", "×": "times", "√": "square root of",
    "∞": "infinity", "°": "degrees", "§": "section", "©": "copyright", "®": "registered", "→": "to", "¢": "cent",
    "∑": "sum of", "∫": "integral of", "∂": "partial", "∆": "delta", "−": "minus", "÷": "divided by",
}  # fmt: skip
_SIGN = re.compile("|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True)))
_COUNTED = r"minus|point|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty"
#: Written with a slash, a sign or points of their own.
_WORDS_OF = {
    "w/o": "without", "w/": "with ", "c/o": "care of", "ph.d.": "p h d", "ph.d": "p h d", "phd": "p h d", "c#": "c sharp",
    "f#": "f sharp", "24/7": "twenty four seven", "9/11": "nine eleven", "50/50": "fifty fifty",
}  # fmt: skip
_WRITTEN = re.compile(
    r"(?i)(?<![\w/.$-])(?:"
    + "|".join(re.escape(written) for written in _WORDS_OF if written != "w/")
    + r")(?![\w/#-]|[.,]\d)|(?<![\w/])w/(?=\s|\w\w)"
)
#: Words that are said as they are written; an apostrophe is between two letters.
_AS_IT_IS = re.compile(r"(?!.*\b(?:vs|phd)\b)(?:[a-z]+(?:'[a-z]+)*(?: +|$)| +)*")
_SIGN_RULES = (
    (rf"#(?=\s*(?:{_COUNTED})\b)", " number "),
    (r"#(?=[^\W\d])", " hashtag "), (r"~(?=\s*\w)", " about "),
    (rf"(?<=\w)\s*<\s*(?=(?:{_COUNTED})\b)|(?<=\s)<(?=\s)", " less than "),
    (rf"(?<=\w)\s*>\s*(?=(?:{_COUNTED})\b)|(?<=\s)>(?=\s)", " greater than "), (r"(?<=[a-z])\.(?=[a-z]{2})", " dot "),
)  # fmt: skip
_WEB = re.compile(r"(?i)\b(?:https?://\S+|www\.\S+)|[\w.+-]+@[\w-]+\.[\w.-]*\w")
_WEB_SIGNS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", ":": "colon", "~": "tilde", "#": "hash",
    "?": "question mark",
}  # fmt: skip


#: One that is not between two letters.
_LONE_APOSTROPHE = re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])")


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """text: in the alphabet, single spaces between words, perhaps empty. left_out: the characters that have no words,
    each once."""

    text: str
    left_out: str

    def notice(self) -> str:
        """What a person is told of what was left out; empty where nothing was."""
        if not self.left_out:
            return ""
        named = ", ".join(repr(character) for character in self.left_out[:SHOWN])
        more = f" and {len(self.left_out) - SHOWN} more" if len(self.left_out) > SHOWN else ""
        return f"cannot be spoken, left out: {named}{more}"


def normalize_text(text: str, alphabet: str) -> NormalizedText:
    """The text in characters of `alphabet`, which stays as it is when it is normalized again. An alphabet with digits keeps
    numbers and whatever else it holds as written; for one without, all is said in words."""
    before, spoken = None, _said_once(text, alphabet)
    left_out = spoken.left_out
    while spoken.text != before:  # plain letters or the words next to them may spell an abbreviation: vś, ½vs
        before, spoken = spoken.text, _said_once(spoken.text, alphabet)
    return NormalizedText(spoken.text, left_out)


def _said_once(text: str, alphabet: str) -> NormalizedText:
    if alphabet == LETTERS and _AS_IT_IS.fullmatch(text):
        return NormalizedText(" ".join(text.split()), "")
    text = _unify(text)
    if not any(digit in alphabet for digit in "0123456789"):
        pieces = map(_open_abbreviations, _pieces(text))
        text = " ".join(_say_signs(spell_numbers(piece)) for piece in pieces)
    return _in_alphabet(text, alphabet)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most `LONGEST_PIECE` characters, after a sentence, a comma or a word where there is one: the
    time of the rules grows faster than the length of their text."""
    start = 0
    while len(text) - start > LONGEST_PIECE:
        ends = (text.rfind(mark, start, start + LONGEST_PIECE) for mark in (". ", "\n", ", ", " "))
        end = next((end for end in ends if end > start), start + LONGEST_PIECE - 1) + 1
        yield text[start:end]
        start = end
    yield text[start:]


def _unify(text: str) -> str:
    """One way to write each character: composed, plain digits, plain dashes and quotes; format characters are gone."""
    text = unicodedata.normalize("NFC", _few_marks(text)).translate(_SAME)
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = re.sub(f"−?[{_SUPERSCRIPT}]+", _superscript, text)
    written = []
    for character in text:
        category = unicodedata.category(character)
        if "<fraction>" in unicodedata.decomposition(character):
            character = " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
        elif category == "Nl" and "ROMAN NUMERAL" in unicodedata.name(character, ""):
            character = str(int(unicodedata.numeric(character)))
        elif category == "Nd":
            character = str(unicodedata.decimal(character))
        elif category == "Cf":
            character = ""
        written.append(character)
    return unicodedata.normalize("NFKC", "".join(written))


def _few_marks(text: str) -> str:
    """Without the combining marks after the first `MOST_MARKS` on one letter."""
    if text.isascii():
        return text
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


def _superscript(found: re.Match[str]) -> str:
    return "^" + "".join("-" if c == "−" else str(_SUPERSCRIPT.index(c)) for c in found[0])


def _open_abbreviations(text: str) -> str:
    """Titles, abbreviations, addresses and initials as they are read."""
    text = _WEB.sub(_address, text)
    text = re.sub(r"(?i)\be\.\s?g\.", "for example", text)
    text = re.sub(r"(?i)\bi\.\s?e\.", "that is", text)
    text = _WRITTEN.sub(lambda found: _WORDS_OF[found[0].lower()], text)
    titles = "|".join(_TITLES)
    text = re.sub(rf"\b((?i:{titles}))\b(?:\.\s*|\s+)(?=[A-Z])", lambda found: _title(found[1]), text)
    text = re.sub(r"(?i)\b(mr|mrs|ms|messrs|dr|prof)\.\s*(?=&|and\b|[a-z])", lambda found: _title(found[1]), text)
    days = "|".join(_WEEKDAYS)
    text = re.sub(rf"\b({days})\b\.?(?=,?\s+(?:\d|[A-Z][a-z]{{2,}}\.?\s+\d))", lambda found: _WEEKDAYS[found[1]], text)
    numbered = "|".join(_BEFORE_NUMBERS)
    text = re.sub(rf"(?i)\b({numbered})\.\s?(?=\d)", lambda found: _BEFORE_NUMBERS[found[1].lower()] + " ", text)
    text = re.sub(rf"\b({'|'.join(_ABBREVIATIONS)})\.(?!\w)", lambda found: _ABBREVIATIONS[found[1]] + " ", text)
    text = re.sub(r"(?i)\bvs\b", "versus", text)
    text = _roman_numbers(text)
    text = re.sub(r"\b(?:[A-Za-z]\.){2,}(?!\w)", lambda found: found[0].replace(".", " "), text)
    if any(character.islower() for character in text):  # what is all in capitals has no acronyms to tell apart
        text = re.sub(r"\b[B-DF-HJ-NP-TV-XZ]{2,5}(?=s?\b|\d)(?!')", _acronym, text)
        text = re.sub(rf"\b(?:{_SPELLED})(?=s?\b)(?!')|\b[A-Z]{{2,3}}(?=\d+\b)", _acronym, text)
    return text


def _roman_numbers(text: str) -> str:
    """Chapter IV -> "Chapter 4", Louis XIV -> "Louis the 14th"; alone only where it can be no letter or word."""
    every = "|".join(sorted(_ROMAN, key=len, reverse=True))
    long = "|".join(sorted((name for name in _ROMAN if len(name) > 1), key=len, reverse=True))
    text = re.sub(rf"\b((?i:{_NUMBERED}))\s+({every})\b(?!')", lambda found: f"{found[1]} {_ROMAN[found[2]]}", text)
    text = re.sub(rf"\b({_RULERS})\s+({long}|V|X)\b(?!')", lambda found: f"{found[1]} the {_ROMAN[found[2]]}th", text)
    return re.sub(rf"(?<=[A-Za-z] )({long})\b(?!')", lambda found: str(_ROMAN[found[1]]), text)


def _title(name: str) -> str:
    """A title before a name; "st john" and "ms" may be words."""
    known = name[0].isupper() or name.lower() in ("mr", "mrs", "dr", "prof")
    return f"{_TITLES[name.lower()]} " if known else f"{name} "


def _acronym(found: re.Match[str]) -> str:
    known = found[0] in MONEY_CODES or (found[0] in UNIT_WORDS and re.search(r"\d\s?$", found.string[: found.start()]))
    return found[0] if known else " ".join(found[0]) + " "


def _address(found: re.Match[str]) -> str:
    """https://a.org/b -> "a dot org slash b"; of an e-mail the @ stays."""
    address = re.sub(r"(?i)^https?://", "", found[0]).rstrip(".,;:!?)")
    tail = found[0][len(found[0].rstrip(".,;:!?)")) :]
    return "".join(f" {_WEB_SIGNS[sign]} " if sign in _WEB_SIGNS else sign for sign in address) + tail


def _say_signs(text: str) -> str:
    """Signs that are read, in words; the numbers are words already."""
    for pattern, words in _SIGN_RULES:
        text = re.sub(pattern, words, text)
    return _SIGN.sub(lambda found: f" {_SIGNS[found[0]]} ", text)


def _in_alphabet(text: str, alphabet: str) -> NormalizedText:
    """Letters and leftovers; an apostrophe stays between letters alone where the alphabet is of letters."""
    in_words = not any(digit in alphabet for digit in "0123456789")
    if in_words:
        text = _LONE_APOSTROPHE.sub(" ", text)
    kept: list[str] = []
    left_out: dict[str, None] = {}
    for character in text:
        said = _in_letters(character, alphabet)
        if said is None:
            left_out[character] = None
        kept.append(" " if said is None else said)
    text = "".join(kept)
    if in_words:  # the letter next to an apostrophe may be gone, or have become a word
        text = _LONE_APOSTROPHE.sub(" ", text)
    return NormalizedText(" ".join(text.split()), "".join(left_out))


@lru_cache(maxsize=4096)
def _in_letters(character: str, alphabet: str) -> str | None:
    """What is said of one character: itself, its plain letters, a name, " " for a mark; None where nothing can be."""
    for same in (character, character.lower(), character.upper()):
        if same in alphabet:
            return same
    name = unicodedata.name(character, "")
    if name.startswith("LATIN "):
        plain = anyascii(character).lower()
        return plain if plain and all(letter in alphabet for letter in plain) else None
    words = _SIGNS.get(character, "").split()
    if name.startswith("GREEK ") and " LETTER " in name:
        words = [name.split(" LETTER ")[1].split()[0].lower().replace("lamda", "lambda")]
    elif name.endswith(" SIGN") and unicodedata.category(character) == "Sc":
        words = name.removesuffix(" SIGN").lower().split()
    if words and all(letter in alphabet for word in words for letter in word):
        return f" {' '.join(words)} "
    category = unicodedata.category(character)
    return " " if category[0] in "PZM" or category == "Cc" or character in "`^~|<>$+=¨¯¸˚" else None
