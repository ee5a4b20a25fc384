"""Written text -> the characters that a Talker was taught: numbers and signs become words where it knows no digits."""

import re

LETTERS = "abcdefghijklmnopqrstuvwxyz '"  # the alphabet of the world's transcripts
_ONES_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS_TEXT = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"
_ONES, _TENS = _ONES_TEXT.split(), _TENS_TEXT.split()
_GROUPS = ((1_000_000_000, "billion"), (1_000_000, "million"), (1000, "thousand"), (100, "hundred"))
_SIGNS = {"+": "plus", "=": "equals", "*": "times", "%": "percent", "&": "and", "@": "at"}
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)|\d+")


def number_words(number: int) -> str:
    """0 .. 999 999 999 999 in words: 342 is "three hundred forty two"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    size, name = next(group for group in _GROUPS if number >= group[0])
    rest = number % size
    return f"{number_words(number // size)} {name}" + (f" {number_words(rest)}" if rest else "")


def spoken_form(text: str, alphabet: str) -> str:
    """The text in characters of `alphabet`: lower case, words for numbers and signs where it lacks them; what still is
    outside becomes a space. Runs of spaces become one. May be empty."""
    if not any(digit in alphabet for digit in "0123456789"):
        text = re.sub(r"(?<![\w)])-(?=\d)", " minus ", text)
        text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
        text = _NUMBER.sub(_say_number, text)
    for sign, word in _SIGNS.items():
        if sign not in alphabet:
            text = text.replace(sign, f" {word} ")
    kept = (
        character if character in alphabet else character.lower() if character.lower() in alphabet else " "
        for character in text.replace("’", "'")
    )  # fmt: skip
    return " ".join("".join(kept).split())


def _say_number(match: re.Match[str]) -> str:
    digits = match.group().replace(",", "")
    if len(digits) > 12 or (len(digits) > 1 and digits[0] == "0"):
        return " " + " ".join(_ONES[int(digit)] for digit in digits) + " "
    return f" {number_words(int(digits))} "
