"""Charts as SVG text, small enough to be part of a page: curves, bars, parallel coordinates. No script, no font, no link."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

#: Colours that differ also for colour-blind readers (Okabe and Ito), then again with dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
DASHES = ("", "6 3", "2 3")
#: Points of a curve that are drawn; longer ones are averaged down to them.
MOST_POINTS = 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 10, 40


@dataclass(frozen=True)
class Series:
    """A curve. number: of the run, which decides its colour and by which a page hides it. markers: its points are shown."""

    label: str
    number: int
    xs: Sequence[float]
    ys: Sequence[float]
    markers: bool = False


def colour(number: int) -> str:
    """The colour of a run."""
    return COLOURS[number % len(COLOURS)]


def ramp(share: float) -> str:
    """A colour from the worst (0, light grey blue) to the best (1, dark blue)."""
    worst, best = (190, 205, 215), (0, 70, 140)
    share = min(1.0, max(0.0, share))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(worst, best, strict=True))


def ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Round numbers within a range, about five."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if len(decades) < 4 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        return [value for value in found if low <= value <= high][:: max(1, len(decades) // 8)]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next((factor for factor in (1, 2, 5) if (high - low) / (factor * step) <= 6), 10)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number of a tick: 12k, 3.5M, 1e12."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if 1e15 > abs(value) >= unit * (10 if name == "k" else 1):
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


def thinned(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most `MOST_POINTS` points: means of neighbours. Values that are not finite are left out."""
    pairs = np.array([(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)])
    if len(pairs) > MOST_POINTS:
        pairs = np.array([group.mean(axis=0) for group in np.array_split(pairs, MOST_POINTS)])
    return (pairs[:, 0].tolist(), pairs[:, 1].tolist()) if len(pairs) else ([], [])


def _range(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        return (low / 1.2, high * 1.2) if log else (low - margin, high + margin)
    return (low, high) if log else (low - 0.03 * (high - low), high + 0.03 * (high - low))


def line_chart(series: Sequence[Series], *, x: str, y: str, width: int = 620, height: int = 300) -> str:
    """Curves over a common axis; the values' axis is logarithmic where they cover more than a factor of 20."""
    curves = [(each, *thinned(each.xs, each.ys)) for each in series]
    curves = [curve for curve in curves if curve[1]]
    if not curves:
        return ""
    all_y = [value for _, _, ys in curves for value in ys]
    log = min(all_y) > 0 and max(all_y) > 20 * min(all_y)
    x_range, y_range = _range([value for _, xs, _ in curves for value in xs], log=False), _range(all_y, log=log)
    right, bottom = width - RIGHT, height - BOTTOM

    def at_x(value: float) -> float:
        return LEFT + (value - x_range[0]) / (x_range[1] - x_range[0]) * (right - LEFT)

    def at_y(value: float) -> float:
        low, high, value = (math.log(each) if log else each for each in (*y_range, value))
        return bottom - (value - low) / (high - low) * (bottom - TOP)

    parts = [_open(width, height, f"{y} over {x}")]
    parts += [_grid(LEFT, at_y(tick), right, at_y(tick)) + _text(LEFT - 6, at_y(tick) + 4, short(tick), "end")
              for tick in ticks(*y_range, log=log)]  # fmt: skip
    parts += [_grid(at_x(tick), TOP, at_x(tick), bottom) + _text(at_x(tick), bottom + 16, short(tick), "middle")
              for tick in ticks(*x_range)]  # fmt: skip
    parts.append(
        _text((LEFT + right) / 2, height - 6, x, "middle") + _text(LEFT, height - 6, "log" if log else "", "end")
    )
    for each, xs, ys in curves:
        points = [f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in zip(xs, ys, strict=True)]
        dash = DASHES[each.number // len(COLOURS) % len(DASHES)]
        style = f'stroke="{colour(each.number)}"' + (f' stroke-dasharray="{dash}"' if dash else "")
        dots = (
            "".join(f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="2.5"/>' for p in points)
            if each.markers
            else ""
        )
        parts.append(
            f'<g class="run r{each.number}"><title>{escape(each.label)}</title><polyline points="{" ".join(points)}" fill="none" '
            f'{style} stroke-width="1.7"/><g fill="{colour(each.number)}">{dots}</g></g>'
        )
    return "".join(parts) + "</svg>"


def bar_chart(bars: Sequence[tuple[str, float]], *, width: int = 620) -> str:
    """Bars from top to bottom, with their names and values."""
    if not bars:
        return ""
    height, names, most = 26 * len(bars) + 8, 250, max(value for _, value in bars) or 1.0
    parts = [_open(width, height, "importance")]
    for index, (name, value) in enumerate(bars):
        y, length = 6 + 26 * index, max(1.0, value / most * (width - names - 60))
        parts.append(
            _text(names - 8, y + 14, name, "end") + f'<rect x="{names}" y="{y}" width="{length:.1f}" height="18" fill="#0072b2"/>'
            + _text(names + length + 6, y + 14, f"{value:.2f}", "start")
        )  # fmt: skip
    return "".join(parts) + "</svg>"


@dataclass(frozen=True)
class Line:
    """A line through parallel axes. values: one an axis, a number or a text, None: not there. share: how good, 0 to 1; None: it
    has no result."""

    title: str
    values: Sequence[object]
    share: float | None


def parallel_coordinates(names: Sequence[str], lines: Sequence[Line], *, log: Sequence[bool], height: int = 340) -> str:
    """One vertical axis a name, one line a job, the best darkest. log: whether an axis is logarithmic."""
    width = max(480, 150 * len(names))
    axes = [_Axis([line.values[index] for line in lines], log=log[index]) for index in range(len(names))]
    places = [70 + index * (width - 140) / max(1, len(names) - 1) for index in range(len(names))]
    parts = [_open(width, height, "parallel coordinates")]
    top, bottom = 40, height - 20
    for line in sorted(lines, key=lambda each: -1.0 if each.share is None else each.share):
        at = [(place, axis.share(value)) for place, axis, value in zip(places, axes, line.values, strict=True)]
        points = " ".join(f"{x:.1f},{bottom - share * (bottom - top):.1f}" for x, share in at if share is not None)
        look = 'stroke="#b0b0b0" stroke-dasharray="3 3"' if line.share is None else f'stroke="{ramp(line.share)}"'
        parts.append(f'<polyline class="job" points="{points}" fill="none" {look} stroke-width="1.6">'
                     f"<title>{escape(line.title)}</title></polyline>")  # fmt: skip
    for index, (name, x, axis) in enumerate(zip(names, places, axes, strict=True)):
        lines_of_name = name.rsplit(".", 1) if len(name) > 18 else [name]
        parts += [_text(x, 14 + 13 * row, text, "middle") for row, text in enumerate(lines_of_name)]
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#444"/>')
        anchor, shift = ("end", -6) if index else ("start", 6)
        parts += [_text(x + shift, bottom - share * (bottom - top) + 4, text, anchor) for share, text in axis.labels()]
    return "".join(parts) + "</svg>"


class _Axis:
    """Positions of values on an axis, from 0 to 1."""

    def __init__(self, values: Sequence[object], *, log: bool) -> None:
        there = [value for value in values if value is not None]
        numbers = [
            float(v) for v in there if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
        ]
        self.names = sorted({str(value) for value in there}) if len(numbers) < len(there) or not numbers else None
        self.log = log and bool(numbers) and min(numbers) > 0
        self.low, self.high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def share(self, value: object) -> float | None:
        """Where a value is; None if it is not there."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
        if self.names is not None:
            return self.names.index(str(value)) / max(1, len(self.names) - 1)
        low, high = self._scaled(self.low), self._scaled(self.high)
        return 0.5 if low == high else (self._scaled(float(str(value))) - low) / (high - low)

    def labels(self) -> list[tuple[float, str]]:
        if self.names is not None:
            return [(index / max(1, len(self.names) - 1), name) for index, name in enumerate(self.names)]
        if self.low == self.high:
            return [(0.5, f"{self.low:.3g}")]
        inner = ticks(self.low, self.high, log=self.log)
        ends = [(0.0, f"{self.low:.3g}"), (1.0, f"{self.high:.3g}")]
        found = [(share, f"{tick:.3g}") for tick in inner if (share := self.share(tick)) is not None]
        return [*ends, *((share, text) for share, text in found if 0.08 < share < 0.92)]


def _open(width: int, height: int, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}" font-family="sans-serif" font-size="12" fill="#222" paint-order="stroke">'
    )


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" stroke="#fff" stroke-width="3">{escape(text)}</text>'
        if text
        else ""
    )
