"""One HTML file that needs nothing else: style, charts, media and a few lines of script are inside. It loads nothing."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from muomni.report.svg import colour
from muomni.report.tables import number

#: Bytes of a page, and of the media inside it as they are in their files (base64 adds a third).
MOST_BYTES = 5_000_000
MOST_MEDIA = 2_500_000
MEDIA = {".png": "image/png", ".wav": "audio/wav"}

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
max-width: 1380px; padding: 12px 24px; }
h1 { font-size: 24px; } h2 { font-size: 19px; margin: 28px 0 8px; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 8px 0; }
th, td { padding: 3px 9px; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }
th { background: #f4f6f8; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } .scroll { overflow-x: auto; }
code { background: #f4f6f8; padding: 1px 4px; overflow-wrap: anywhere; } .note { color: #555; }
td:last-child { min-width: 240px; } .best td { background: #e8f3ea; } .charts { display: flex; flex-wrap: wrap; gap: 12px; }
figure { margin: 0; max-width: 100%; } figcaption { font-weight: 600; } svg { max-width: 100%; height: auto; }
.key { display: inline-block; width: 14px; height: 4px; vertical-align: middle; margin-right: 6px; }
.legend label { margin-right: 16px; white-space: nowrap; } .job:hover { stroke: #d55e00; stroke-width: 4; }
button { font: inherit; padding: 3px 12px; border: 1px solid #888; background: #fff; border-radius: 4px; }
button[aria-pressed=true] { background: #0072b2; color: #fff; } img { image-rendering: pixelated; min-width: 96px; }
"""

#: Chooses the axis of the curves, and hides runs.
SCRIPT = """
const show = (axis) => {
  document.querySelectorAll("[data-axis]").forEach((each) => { each.hidden = each.dataset.axis !== axis; });
  document.querySelectorAll("[data-choose]").forEach((each) => each.setAttribute("aria-pressed", each.dataset.choose === axis));
};
document.querySelectorAll("[data-choose]").forEach((each) => each.addEventListener("click", () => show(each.dataset.choose)));
document.querySelectorAll("[data-run]").forEach((each) => each.addEventListener("change", () => {
  document.querySelectorAll(`.run.r${each.dataset.run}`).forEach((line) => { line.style.display = each.checked ? "" : "none"; });
}));
"""


@dataclass
class Page:
    """A page in the making. media: bytes that it may still embed. style, script: of the whole page."""

    title: str
    sections: list[str] = field(default_factory=list)
    media: int = MOST_MEDIA
    style: str = STYLE
    script: str = SCRIPT

    def add(self, *pieces: str) -> None:
        """Append HTML."""
        self.sections += pieces

    def heading(self, text: str, note: str = "") -> None:
        """A section begins."""
        self.add(f"<h2>{escape(text)}</h2>", paragraph(note))

    def embed(self, path: Path) -> str:
        """An image or a sound as part of the page; a word where there is no room left."""
        form = MEDIA.get(path.suffix)
        if form is None or not path.is_file():
            return ""
        return self.embed_content(path.read_bytes(), form)

    def embed_content(self, content: bytes, form: str) -> str:
        """The same of the bytes of a media type."""
        if len(content) > self.media:
            return '<span class="note">(left out: the page would be too large)</span>'
        self.media -= len(content)
        source = f"data:{form};base64,{base64.b64encode(content).decode()}"
        return (
            f'<img src="{source}" alt="">' if form.startswith("image") else f'<audio controls src="{source}"></audio>'
        )

    def html(self) -> str:
        """The whole file. Raises ValueError if it is too large."""
        icon = '<link rel="icon" href="data:,">'  # or a browser asks a server for one
        text = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>{icon}'
            f'<meta name="viewport" content="width=device-width"><style>{self.style}</style></head>\n'
            f"<body><h1>{escape(self.title)}</h1>\n"
            + "\n".join(piece for piece in self.sections if piece)
            + f"\n<script>{self.script}</script></body></html>\n"
        )
        if len(text.encode()) > MOST_BYTES:
            raise ValueError(
                f"the page would have {len(text.encode()) / 1e6:.1f} MB, over {MOST_BYTES / 1e6:.0f}: give fewer runs"
            )
        return text


def paragraph(text: str) -> str:
    """A note in small print."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, best: int | None = None) -> str:
    """A table; numbers on the right, `Raw` cells as they are. best: the row that is marked."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    marks = ['<tr class="best">' if index == best else "<tr>" for index in range(len(rows))]
    body = "".join(f"{mark}{''.join(map(_cell, row))}</tr>" for mark, row in zip(marks, rows, strict=True))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


class Raw(str):
    """HTML, not text."""


def _cell(value: object) -> str:
    if isinstance(value, Raw):
        return f"<td>{value}</td>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="n">{number(value)}</td>'
    return f"<td>{'' if value is None else escape(str(value))}</td>"


def legend(labels: Sequence[str]) -> str:
    """A box a run, which hides its curves."""
    boxes = (
        f'<label><input type="checkbox" checked data-run="{index}"><span class="key" style="background:{colour(index)}"></span>'
        f"{escape(label)}</label>"
        for index, label in enumerate(labels)
    )
    return f'<p class="legend">{" ".join(boxes)}</p>'


def axis_buttons(axes: Sequence[str]) -> str:
    """A button an axis."""
    first = axes[0] if axes else ""
    return "".join(
        f'<button type="button" data-choose="{escape(axis)}" aria-pressed="{str(axis == first).lower()}">{escape(axis)}</button> '
        for axis in axes
    )


def figure(title: str, chart: str, *, axis: str = "", hidden: bool = False) -> str:
    """A chart with its title; of one axis of several."""
    named = (f' data-axis="{escape(axis)}"' + (" hidden" if hidden else "")) if axis else ""
    caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    return f"<figure{named}>{caption}{chart}</figure>" if chart else ""
