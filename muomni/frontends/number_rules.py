"""Numbers of a text, and the signs next to them -> words: rules in order, each a pattern and its words.

First dates, times and telephones, whose signs mean nothing else; then what a sign between numbers means (minus, "to"); then
the forms that are more than a number; and last every number that is left.
"""

import re
from collections.abc import Callable

from muomni.frontends import number_words as say
from muomni.frontends.units import MONEY, MONEY_CODES, PER, SCALES, UNIT_WORDS, plural

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)*|(?<!\d)\.\d+)"
_MONTH = (
    r"(Jan(?:uary)?|Feb(?:ruary)?|(?-i:MARCH|Mar(?:ch)?|MAY|May)|Apr(?:il)?|June?|July?|Aug(?:ust)?|"
    r"Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_YEAR = r"(1[1-9]\d\d|20\d\d)(?![\d%]|[.,]\d|\s?%)"
_SYMBOLS = "".join(MONEY)
_SCALE = rf"(?:\s?({'|'.join(SCALES)})\b)?"
_FULL = r"\d[\d,]*(?:\.\d+)?"
_UNITS = "|".join(re.escape(unit) for unit in sorted(UNIT_WORDS, key=len, reverse=True))
_CODES = "|".join(MONEY_CODES)
_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (rf"(?<!\d)(?<!\d\.)\d{{{say.LONGEST_COUNT + 1},}}", lambda found: f" {say.digit_words(found[0])} "),
    # dates, times and telephones, whose signs mean nothing else
    (r"(?<=\d)'(?=\d{3}(?!\d))", ""),  # 1'000'000, as the Swiss write it
    (r"%\s?[-–~]\s?(?=\d)", "% to "),
    (r"(?i)(?<=\d)(st|nd|rd|th)\s?[-–]\s?(?=\d+(?:st|nd|rd|th)\b)", r"\1 to "),
    (r"(?<=\d)\s?~\s?(?=\d)", " to "),
    (r"\b(\d+)\s?h(?:rs?)?\s?(\d+)\s?m(?:ins?)?\b", r"\1 h \2 min"),
    (rf"([{_SYMBOLS}]\s?\d+),(\d\d)(?![\d,.])|(?<![\d,.])(\d+),(\d\d)(?=\s?[{_SYMBOLS}](?!\d))",
     lambda found: f"{found[1] or found[3]}.{found[2] or found[4]}"),  # €12,50
    (r"(?<![\d.,])\d{1,3}(?: \d{3})* 0\d\d(?: \d{3})*(?![\d])", lambda found: found[0].replace(" ", "")),
    (r"(?<![\d.,])\d{1,3}(?:\.\d{3})+,\d+(?![\d.,])",
     lambda found: found[0].replace(".", "").replace(",", ".")),
    (r"\bUS\s?(?=\$)", ""),
    (r"(?<![\d-])(\d{4})-(\d\d?)-(\d\d?)(?![\d-])", lambda found: say.date(found[1], int(found[2]), int(found[3])) or found[0]),
    (r"(?<![\d/.])(\d\d?)([/.])(\d\d?)\2(\d{4}|\d\d)(?![\d/]|\.\d)", say.short_date),
    (rf"(?i)\b{_MONTH}\s+(\d\d?)(?:st|nd|rd|th)?\b(?!:|[.,]\d)(?:,?\s+{_YEAR})?", say.month_day),
    (rf"(?i)(?:\b(the)\s+)?\b(\d\d?)(?:st|nd|rd|th)?(?:\s+of)?\s+{_MONTH}(?:,?\s+{_YEAR})?", say.day_month),
    (rf"(?i)\b{_MONTH},?\s+{_YEAR}",
     lambda found: f" {say.MONTHS[say.month_number(found[1]) - 1]} {say.year_words(int(found[2]))} "),
    (rf"(?i)\b(march|may)\s+(\d\d?),?\s+{_YEAR}", say.month_day),
    (r"(?i)(?<=\d[ap]m)\s?[-–]\s?(?=\d)|(?<=:\d\d)\s?[-–]\s?(?=\d\d?:\d\d)", " to "),
    (r"(?i)(?<![\d.,:])(\d\d?)(?::([0-5]\d))?\s?[-–]\s?(?=\d\d?(?:[:.][0-5]\d)?\s?[ap]\.?\s?m\b)",
     lambda found: f"{say.clock(int(found[1]), int(found[2] or 0))} to "),
    (r"(?i)(?<![\d.,])(\d\d?)\.([0-5]\d)(?=\s?[ap]\.?\s?m\b)", r"\1:\2"),
    (r"(?i)(?<![\d:])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])(?:\s?([ap])\.?\s?m\b\.?)?", say.clock_time),
    (r"(?i)(?<![\d.,:])(\d\d?)\s?([ap])\.?\s?m\b\.?", lambda found: f" {say.number_words(found[1])} {found[2].lower()} m "),
    (r"(?<=\d):(?=\d)", " to "),
    (r"(?<![\w-])\+\d{1,3}(?: \d{2,4}){2,5}(?![\w-]|[.,]\d)", say.phone),
    (r"(?<![\w-])(?:\+\d{1,3}[- ])?(?:\(\d{3}\) ?|\d{3}-)\d{3}[- ]\d{4}(?![\w-])", say.phone),
    (r"(?<![\w.,-])\d{3}-\d{4}(?<!00)(?![\w-]|[.,]\d)", say.phone),
    (r"(?<![\w.,-])\d+(?:-\d+){2,}(?![\w-]|[.,]\d|\s?=)", say.phone),
    (rf"(?<![\d.,$]){_YEAR}(\s?[-–]\s?|\s+(?:to|and)\s+){_YEAR}\s?", say.two_years),
    (rf"(?<![\d.,$]){_YEAR}[-–](\d\d)\b(?!-)",
     lambda found: f"{say.year_words(int(found[1]))} to {say.count_words(int(found[2]))} "),
    (rf"(?i)\b(in|since|by|from|until|till|before|after|around|circa|during|year|years|copyright)\s+{_YEAR}",
     lambda found: f"{found[1]} {say.year_words(int(found[2]))}"),
    (rf"\({_YEAR}\)", lambda found: f" {say.year_words(int(found[1]))} "),
    (r"\b([1-9]\d\d0)'?s\b", say.decade),
    (r"(?:(?<=')|(?<=\bthe )|(?<=\bhis )|(?<=\bher )|(?<=\bmid)|(?<=\bmid[ -])|(?<=\bearly )|(?<=\blate ))"
     r"([1-9]0)'?s\b", say.decade),
    # what a sign between numbers means
    (r"\^\s?[({]?([-−]\d+)[)}]?", say.power),
    (rf"(?<=[\d)])\s*[-–]\s*(?=\(?{_FULL}\)?(?:\s*[-–+*/×÷−]\s*{_FULL})*\s*=)", " minus "),
    (r"(?<=\d)\s+-\s+(?=[\d(.])", " minus "),
    (r"(?<=\))\s*-\s*(?=[\d(.a-zA-Z])|(?<=\d)\s*-\s*(?=\()", " minus "),
    (r"(?<=\b[knxyz])\s+-\s+(?=\d|[knxyz]\b)|(?<=\d)\s+-\s+(?=[knxyz]\b)", " minus "),
    (rf"(?<![\w$€£¥.,-])({NUMBER})\s?(–)\s?(?={NUMBER})", r"\1 to "),
    (rf"(?<![\w.,-])({NUMBER})-(?=({NUMBER})(?![\w-]*-))", say.between),
    (rf"(?<![\w.)\]%-])-(?=[{_SYMBOLS}]?\.?\d)", " minus "),
    ("−", " minus "),
    (r"(?<=\d)\s*[*×✕⋅·]\s*(?=[\d(.-]|minus )|(?<=\d)\s+x\s+(?=\d)|(?<=\))\s*\*\s*(?=[\d(])", " times "),
    (r"(?<=\d)x(?=\d)", " by "),
    (rf"(?<=\d)(\s?(?:{_UNITS}))\s?[x×]\s?(?=\d)", r"\1 by "),
    (r"(?<=\d)\s+/\s+(?=\d)|÷", " divided by "),
    # forms that are more than a number
    (rf"\b([Aa]n?\s+)([{_SYMBOLS}])({NUMBER}){_SCALE}(?=\s+[a-z])", say.worth),
    (rf"([{_SYMBOLS}])\s?(?:({NUMBER})\s?(?:[-–]| to )\s?(?:[{_SYMBOLS}])?)?({NUMBER}){_SCALE}", say.money),
    (rf"({NUMBER})\s?([{_SYMBOLS}¢])(?!\d)", lambda found: say.amount(found[1], None, (MONEY | {"¢": "cent"})[found[2]])),
    (rf"\b({_CODES})\s?({NUMBER}){_SCALE}", lambda found: say.amount(found[2], found[3], MONEY_CODES[found[1]])),
    (rf"({NUMBER}){_SCALE}\s?({_CODES})\b", lambda found: say.amount(found[1], found[2], MONEY_CODES[found[3]])),
    (r"\b(\d[\d,]*)(?:st|nd|rd|th|ST|ND|RD|TH)\b", say.ordinal),
    (r"(?<![\d.,])(\d+)'\s?(\d+)\"", say.feet),
    (r"(?:(?<![\d.,/])(\d+)\s+)?(?<![\d.,/])(\d{1,4})\s?[/⁄]\s?(\d{1,4})(?![\d/]|[.,]\d)", say.fraction),
    (rf"({NUMBER})[eE]([+-]?\d+)\b", say.scientific),
    (r"(?<![\d.,])(\d+)\s?ft\.?\s+(\d+)\s?in\b\.?", say.feet),
    (rf"(?<![a-zA-Z])({NUMBER})\s?({_UNITS})(?:\^?([23]))?(?:\s?/\s?({'|'.join(PER)}))?(?![\w/^'])", say.unit),
    (rf"({NUMBER})\s?in\.(?!\w)", lambda found: f" {say.number_words(found[1])} {plural('inch', found[1] == '1')} "),
    (rf"(?<=[a-z] )/\s?({'|'.join(PER)})\b", lambda found: f"per {PER[found[1]]}"),
    (r"\^\s?[({]?([-−+]?\d+)[)}]?", say.power),
    (rf"(?<![a-zA-Z])({NUMBER})([kMB])\b", lambda found: f" {say.number_words(found[1])} {SCALES[found[2]]} "),
    (rf"({NUMBER})", lambda found: f" {say.number_words(found[1])} "),
)  # fmt: skip
_COMPILED = [(re.compile(pattern), words) for pattern, words in _RULES]


def spell_numbers(text: str) -> str:
    """The text without digits: every number, and the signs that belong to numbers, in words."""
    if not re.search(r"\d", text):
        return text
    for pattern, words in _COMPILED:
        text = pattern.sub(words, text)
    return text
