"""python docs/draw_architecture.py: draws docs/architecture.svg, the drawing of the architecture in README.md.

The drawing has its own background and follows the reader's light or dark scheme. Lengths are pixels.
"""

from pathlib import Path

WIDTH, HEIGHT = 960, 452
STYLE = """
  text { font: 14px ui-sans-serif, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #1f2328; text-anchor: middle }
  .title { font-weight: 600 }
  .small { font-size: 11.5px; fill: #59636e }
  .page { fill: #ffffff; stroke: #d1d9e0 }
  .data { fill: #f6f8fa; stroke: #8c959f }
  .model { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.4 }
  .plain { fill: #fff8c5; stroke: #9a6700 }
  .line { fill: none; stroke: #59636e; stroke-width: 1.4 }
  .tip { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #c0c8d1 }
    .page { fill: #0d1117; stroke: #3d444d }
    .data { fill: #212830; stroke: #656c76 }
    .model { fill: #0c2d6b; stroke: #4493f8 }
    .plain { fill: #3b2300; stroke: #d29922 }
    .line { stroke: #9198a1 }
    .tip { fill: #9198a1 }
  }
"""


def box(style: str, x: int, y: int, width: int, height: int, *lines: str) -> str:
    """A rounded box around a title and smaller lines under it."""
    top = y + height / 2 - 9 * (len(lines) - 1) + 5
    texts = [
        f'<text class="{"small" if row else "title"}" x="{x + width / 2}" y="{top + 18 * row}">{line}</text>'
        for row, line in enumerate(lines)
    ]
    return f'<rect class="{style}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>' + "".join(texts)


def arrow(*points: tuple[int, int], label: str = "") -> str:
    """A line through the points with a tip at its end, and a label over its first piece."""
    (x0, y0), (x1, _), (x, y) = points[0], points[1], points[-1]
    dx, dy = [(a > b) - (a < b) for a, b in zip(points[-1], points[-2], strict=True)]
    side_x, side_y = 4.5 * dy, 4.5 * dx
    back_x, back_y = x - 9 * dx, y - 9 * dy
    path = " ".join(f"{a},{b}" for a, b in (*points[:-1], (back_x, back_y)))
    tip = f"{x},{y} {back_x + side_x},{back_y + side_y} {back_x - side_x},{back_y - side_y}"
    text = f'<text class="small" x="{(x0 + x1) / 2}" y="{y0 - 8}">{label}</text>' if label else ""
    return f'<polyline class="line" points="{path}"/><polygon class="tip" points="{tip}"/>{text}'


def drawing() -> str:
    """The whole drawing: inputs on the left, the Thinker in the middle, outputs on the right and below."""
    rows = {"image": 24, "audio": 112, "text": 200}
    thinker = "decoder-only transformer:", "image, audio and text", "tokens in one row", "stage=thinker, omni_sft"
    shapes = [f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>']
    shapes += [box("data", 24, y, 92, 64, name) for name, y in rows.items()]
    shapes += [
        box("model", 168, rows["image"], 170, 64, "Vision encoder", "stage=vision"),
        box("model", 168, rows["audio"], 170, 64, "Audio encoder", "log-mel, CTC: stage=audio"),
        box("plain", 168, rows["text"], 170, 64, "Tokenizer", "SentencePiece"),
        box("model", 390, rows["image"], 130, 64, "Projector", "stage=omni_sft"),
        box("model", 390, rows["audio"], 130, 64, "Projector", "stage=omni_sft"),
        box("model", 390, rows["text"], 130, 64, "Embeddings", "stage=thinker"),
        box("model", 572, 24, 186, 240, "Thinker", *thinker),
        box("data", 816, 112, 120, 64, "text", "answer, transcript"),
        box("plain", 788, 330, 148, 72, "Text normalizer", "7 - 2: seven minus two"),
        box("model", 594, 330, 142, 72, "Talker", "characters to codes", "stage=talker"),
        box("model", 392, 330, 142, 72, "Codec", "codes to mel", "stage=codec"),
        box("model", 178, 330, 154, 72, "Vocoder", "Griffin-Lim, or a net:", "stage=vocoder"),
        box("data", 24, 330, 92, 72, "speech"),
    ]  # fmt: skip
    for y in (top + 32 for top in rows.values()):
        shapes += [arrow((start, y), (end, y)) for start, end in ((116, 166), (338, 388), (520, 570))]
    shapes += [
        arrow((758, 144), (814, 144)),
        arrow((876, 176), (876, 328)),
        arrow((788, 366), (738, 366)),
        arrow((594, 366), (536, 366), label="codes"),
        arrow((392, 366), (334, 366), label="mel"),
        arrow((178, 366), (118, 366)),
        '<text class="small" x="480" y="434">blue: networks, trained from random weights, each stage by one command;'
        " yellow: no network; grey: data</text>",
    ]
    view = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img"'
    title = "<title>muomni: text, images and speech in; text and speech out</title>"
    return f"<svg {view}>\n{title}\n<style>{STYLE}</style>\n" + "\n".join(shapes) + "\n</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_name("architecture.svg").write_text(drawing(), encoding="utf-8")
