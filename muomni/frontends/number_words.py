"""Numbers in English words, as they are read aloud: counts, ordinals, years, dates, times, money, units, fractions.

num2words knows the words themselves; a function of a match takes what one rule of `number_rules.py` has found.
"""

import re
from functools import cache, lru_cache
from typing import Any

from muomni.frontends.units import MINOR, MONEY, PER, SCALES, UNIT_WORDS, plural

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
LONGEST_COUNT = 15  # digits; a longer number is read digit by digit


@cache
def _english() -> Any:
    from num2words.lang_EN import Num2Word_EN  # a tenth of a second, which only who speaks numbers pays

    return Num2Word_EN()


def _words(text: str) -> str:
    return re.sub("[-,]", " ", text).replace("  ", " ")


@lru_cache(
    maxsize=1024
)  # digits and small numbers are said again and again, and num2words takes a tenth of a millisecond
def count_words(number: int) -> str:
    """342 -> "three hundred and forty two"."""
    return _words(_english().to_cardinal(number))


def ordinal_words(number: int) -> str:
    """21 -> "twenty first"."""
    return _words(_english().to_ordinal(number))


def year_words(year: int) -> str:
    """1905 -> "nineteen oh five"."""
    return _words(_english().to_year(year))


def digit_words(text: str) -> str:
    """Every digit by itself: "007" -> "zero zero seven"."""
    return " ".join(count_words(int(digit)) for digit in text if digit.isdigit())


def number_words(text: str) -> str:
    """A number as written -> words: "1,200" "one thousand two hundred", "3.14" "three point one four", "007" and what
    is longer than 15 digits digit by digit, "1.2.3" with each point."""
    groups = text.replace(",", "").split(".")
    if len(groups) == 3 and len(groups[0]) <= 3 and len(groups[1]) == len(groups[2]) == 3:
        groups = ["".join(groups)]  # 1.234.567, as much of Europe writes it
    first, *rest = groups
    spelled = len(first) > LONGEST_COUNT or (len(first) > 1 and first[0] == "0" and not rest)
    words = [] if not first else [digit_words(first) if spelled else count_words(int(first))]
    for group in rest:
        whole = len(rest) > 1  # a version or an address: whole numbers between points
        words += ["point", count_words(int(group)) if whole and len(group) <= 3 else digit_words(group)]
    return " ".join(words)


def ordinal(found: re.Match[str]) -> str:
    """1st; one that is too long for a count digit by digit."""
    digits = found[1].replace(",", "")
    return f" {ordinal_words(int(digits)) if len(digits) <= LONGEST_COUNT else digit_words(digits) + 'th'} "


# --- dates and times ---------------------------------------------------------------------------------------------------


def date(year: str | None, month: int, day: int) -> str | None:
    """2024, 3, 5 -> "march fifth twenty twenty four"; None where there is no such day."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f" {MONTHS[month - 1]} {ordinal_words(day)}" + (f" {year_words(int(year))} " if year else " ")


def short_date(found: re.Match[str]) -> str:
    """12/25/2024, or 25.12.2024: the month first between slashes where it can be one, the day first between points."""
    first, second, year = int(found[1]), int(found[3]), found[4]
    if len(year) == 2:
        year = ("20" if int(year) < 50 else "19") + year
    day_first = found[2] == "." or first > 12
    return (date(year, second, first) if day_first else date(year, first, second)) or found[0]


def month_number(name: str) -> int:
    """Mar, March -> 3."""
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name.lower()[:3]))


def month_day(found: re.Match[str]) -> str:
    """March 5, 2024."""
    return date(found[3], month_number(found[1]), int(found[2])) or found[0]


def day_month(found: re.Match[str]) -> str:
    """5 March 2024, the 5th of March."""
    day, month = int(found[2]), MONTHS[month_number(found[3]) - 1]
    if not 1 <= day <= 31:
        return found[0]
    year = f" {year_words(int(found[4]))}" if found[4] else ""
    return f" {'the' if not found[1] else found[1]} {ordinal_words(day)} of {month}{year} "


def clock_time(found: re.Match[str]) -> str:
    """3:05, 3:30 pm, 12:30:15."""
    hour, minute, second, half = int(found[1]), int(found[2]), found[3], (found[4] or "").lower()
    words = [count_words(hour)]
    if minute:
        words += ["oh"] if minute < 10 else []
        words.append(count_words(minute))
    elif not half and not second:
        words.append("hundred" if hour > 12 else "o'clock")
    if second:
        words.append(f"and {count_words(int(second))} second{'' if int(second) == 1 else 's'}")
    return " ".join(["", *words, *([f"{half} m"] if half else []), ""])


def clock(hour: int, minute: int) -> str:
    """The first of two times, whose half of the day is that of the second: 10, 30 -> "ten thirty"."""
    between = "" if not minute else " oh " if minute < 10 else " "
    return f"{count_words(hour)}{between}{count_words(minute) if minute else ''}"


def decade(found: re.Match[str]) -> str:
    """1990s."""
    number = int(found[1])
    words = year_words(number) if number >= 1000 else count_words(number)
    return f" {words[:-1]}ies " if words.endswith("y") else f" {words}s "


def two_years(found: re.Match[str]) -> str:
    """1914-1918, 1990 to 2000."""
    return f"{year_words(int(found[1]))} {'to' if found[2].strip() in '-–' else found[2].strip()} {year_words(int(found[3]))} "


# --- money, units, fractions, powers -------------------------------------------------------------------------------


def amount(number: str, scale: str | None, name: str) -> str:
    """$5, $5.50 and $5 million, by the name of the currency."""
    if scale:
        return f" {number_words(number)} {SCALES[scale]} {plural(name, False)} "
    whole, _, cents = number.replace(",", "").partition(".")
    if len(cents) != 2 or name not in MINOR:
        return f" {number_words(number)} {plural(name, number == '1')} "
    parts = [f"{number_words(whole)} {plural(name, whole == '1')}"] if whole.strip("0") else []
    if int(cents):
        parts.append(f"{count_words(int(cents))} {MINOR[name][int(cents) != 1]}")
    return f" {' and '.join(parts) or f'zero {plural(name, False)}'} "


def money(found: re.Match[str]) -> str:
    """$5, $5.50, $5 million, $5-10."""
    symbol, low, high, scale = found.groups()
    return (f" {number_words(low)} to" if low else "") + amount(high, scale, MONEY[symbol])


def worth(found: re.Match[str]) -> str:
    """a $20 bill, a $5 million deal: in the singular."""
    article, symbol, number, scale = found.groups()
    words = f" {SCALES[scale]}" if scale else ""
    return f"{article}{number_words(number)}{words} {MONEY[symbol]}"


def unit(found: re.Match[str]) -> str:
    """5 km, 20 m^2, 3 MB/s."""
    number, unit, power, per = found.groups()
    area = {"2": "square ", "3": "cubic "}[power] if power else ""
    each = f" per {PER[per]}" if per else ""
    return f" {number_words(number)} {area}{plural(UNIT_WORDS[unit], number == '1')}{each} "


def feet(found: re.Match[str]) -> str:
    """5'10", 5 ft 10 in."""
    feet, inches = found.groups()
    foot, inch = plural("foot", feet == "1"), plural("inch", inches == "1")
    return f" {number_words(feet)} {foot} {number_words(inches)} {inch} "


def fraction(found: re.Match[str]) -> str:
    """1/2, 2 3/4; 32/15 is "over"."""
    whole, above, below = found[1], int(found[2]), int(found[3])
    if not 0 < above < below or below > 100:
        before = f"{number_words(whole)} " if whole else ""
        return f" {before}{count_words(above)} over {count_words(below)} "
    part = {2: "half", 4: "quarter"}.get(below) or ordinal_words(below)
    part = part if above == 1 else "halves" if below == 2 else f"{part}s"
    if whole:
        return f" {number_words(whole)} and {'a' if above == 1 else count_words(above)} {part} "
    return f" {count_words(above)} {part} "


def power(found: re.Match[str]) -> str:
    """x^2, 10^-6."""
    power = found[1]
    if power in ("2", "3"):
        return " squared " if power == "2" else " cubed "
    return f" to the power of {'minus ' if power[0] in '-−' else ''}{number_words(power.lstrip('+-−'))} "


def scientific(found: re.Match[str]) -> str:
    """1.5e-3."""
    minus = "minus " if found[2][0] == "-" else ""
    return f" {number_words(found[1])} times ten to the power of {minus}{number_words(found[2].lstrip('+-'))} "


def between(found: re.Match[str]) -> str:
    """5-10 rises: "to". 7-2 falls: "minus"; 50-50, and versions with several points: nothing between."""
    if max(found[1].count("."), found[2].count(".")) > 1:
        return f"{found[1]} "
    low, high = (float(found[group].replace(",", "")) for group in (1, 2))
    return f"{found[1]} {'to' if low < high else 'minus' if low > high else ''} "


def phone(found: re.Match[str]) -> str:
    """555-123-4567, digit by digit."""
    groups = re.findall(r"\d+", found[0])
    return " " + ("plus " if found[0].startswith("+") else "") + " ".join(map(digit_words, groups)) + " "
