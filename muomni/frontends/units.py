"""Words for what follows or precedes a number: currencies, scales, units of measure."""

MONEY = {
    "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "₩": "won", "₽": "ruble", "₺": "lira",
    "₴": "hryvnia", "₫": "dong", "₿": "bitcoin", "₱": "peso", "₪": "shekel", "฿": "baht", "₦": "naira",
}  # fmt: skip
MONEY_CODES = {
    "USD": "u s dollar", "EUR": "euro", "GBP": "pound", "JPY": "yen", "CHF": "swiss franc", "INR": "rupee",
    "CNY": "yuan", "CAD": "canadian dollar", "AUD": "australian dollar",
}  # fmt: skip
_CENTS = ("cent", "cents")
MINOR = dict.fromkeys(("dollar", "euro", "u s dollar", "canadian dollar", "australian dollar"), _CENTS) | {
    "pound": ("penny", "pence")
}
SCALES = {
    "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion", "mn": "million",
    "bn": "billion", "tn": "trillion", "k": "thousand", "K": "thousand", "m": "million", "M": "million",
    "b": "billion", "B": "billion", "T": "trillion",
}  # fmt: skip
UNIT_WORDS = {
    "Km": "kilometer", "KM": "kilometer", "Kg": "kilogram", "KG": "kilogram",
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "μm": "micrometer", "nm": "nanometer",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "μg": "microgram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "cl": "centiliter", "ha": "hectare",
    "ft": "foot", "yd": "yard", "mi": "mile", "mph": "mile per hour", "km/h": "kilometer per hour",
    "kmh": "kilometer per hour", "kph": "kilometer per hour", "m/s": "meter per second", "Hz": "hertz",
    "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt",
    "GW": "gigawatt", "Wh": "watt hour", "kWh": "kilowatt hour", "V": "volt", "mA": "milliamp", "mAh": "milliamp hour",
    "J": "joule", "kJ": "kilojoule", "kcal": "kilocalorie", "cal": "calorie", "Pa": "pascal", "hPa": "hectopascal",
    "kPa": "kilopascal", "dB": "decibel", "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "ns": "nanosecond", "μs": "microsecond", "ms": "millisecond", "s": "second", "sec": "second",
    "secs": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "px": "pixel",
    "mpg": "mile per gallon", "bpm": "beat per minute", "ppm": "part per million", "psi": "pound per square inch",
    "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "fps": "frame per second", "rpm": "revolution per minute", "°C": "degree celsius", "°F": "degree fahrenheit",
    "°": "degree",
}  # fmt: skip
PER = {
    "s": "second", "sec": "second", "second": "second", "min": "minute", "minute": "minute", "h": "hour", "hr": "hour",
    "hour": "hour", "night": "night", "person": "person", "head": "head", "day": "day", "week": "week",
    "month": "month", "year": "year", "kg": "kilogram", "km": "kilometer", "m": "meter", "l": "liter", "L": "liter",
}  # fmt: skip
_IRREGULAR = {"foot": "feet", "inch": "inches", **{same: same for same in ("yen", "won", "yuan", "baht", "dong")}}


def plural(name: str, one: bool) -> str:
    """The name of a unit or currency, in the plural unless there is one: "mile per hour" -> "miles per hour"."""
    if one or name.endswith("hertz"):
        return name
    words = name.split()
    head = len(words) - 1 if name in MONEY_CODES.values() or (name.endswith("hour") and "per" not in words) else 0
    words[head] = _IRREGULAR.get(words[head], f"{words[head]}s")
    return " ".join(words)
