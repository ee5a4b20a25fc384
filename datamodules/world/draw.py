"""Pictures of scenes, drawn with Pillow at twice the size and reduced.

S image size in pixels. The picture is a grid of 3 x 3 cells of S / 3 pixels. A small thing is 0.23 S wide (15 px of
64), a big one 0.31 S (20 px); it is jittered inside its cell. Ground: one dark random colour. Brightness varies by
+-10 %.
"""

import math
import random

from PIL import Image, ImageDraw, ImageFont

from datamodules.world.lexicon import SHAPES
from datamodules.world.scene import Scene

COLOUR_VALUES = (
    (235, 30, 35), (30, 180, 50), (50, 80, 245), (245, 225, 40),
    (250, 135, 15), (165, 45, 205), (35, 215, 225), (245, 245, 245),
)  # fmt: skip
WIDTHS = (0.23, 0.31)
OVERSAMPLING = 2

#: Corners in units of half the width, from the centre.
_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "triangle": [(0, -1), (1, 0.95), (-1, 0.95)],
    "star": [(radius * math.sin(math.pi * corner / 5), 0.08 - radius * math.cos(math.pi * corner / 5))
             for corner, radius in enumerate((1.08, 0.42) * 5)],
    "cross": [(-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33), (0.33, 1), (-0.33, 1),
              (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33)],
}  # fmt: skip


def _draw_shape(canvas: ImageDraw.ImageDraw, shape: str, x: float, y: float, half: float, fill: tuple) -> None:
    """One shape centred at (x, y), reaching `half` pixels each way."""
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        canvas.ellipse(box, fill=fill)
    elif shape == "square":
        side = 0.92 * half
        canvas.rectangle((x - side, y - side, x + side, y + side), fill=fill)
    elif shape == "ring":
        canvas.ellipse(box, outline=fill, width=max(2, round(0.36 * half)))
    else:
        canvas.polygon([(x + half * px, y + half * py) for px, py in _POLYGONS[shape]], fill=fill)


def _bright(colour: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(min(255, round(channel * factor)) for channel in colour)


def _blank(rng: random.Random, size: int, grey: bool) -> Image.Image:
    ground = (rng.randrange(8, 45),) * 3 if grey else tuple(rng.randrange(5, 50) for _ in range(3))
    return Image.new("RGB", (size * OVERSAMPLING, size * OVERSAMPLING), ground)


def draw_picture(scene: Scene, rng: random.Random, *, size: int) -> Image.Image:
    """The scene as an RGB picture of size x size pixels; a scene without colours in grey levels."""
    grey = any(thing.colour is None for thing in scene)
    picture = _blank(rng, size, grey)
    canvas = ImageDraw.Draw(picture)
    cell = size * OVERSAMPLING / 3
    for thing in scene:
        half = WIDTHS[thing.size] * size * OVERSAMPLING / 2
        slack = max(0.0, cell / 2 - half)
        x = (thing.cell % 3 + 0.5) * cell + rng.uniform(-slack, slack)
        y = (thing.cell // 3 + 0.5) * cell + rng.uniform(-slack, slack)
        if thing.colour is None:
            fill: tuple[int, ...] = (rng.randrange(110, 250),) * 3
        else:
            fill = _bright(COLOUR_VALUES[thing.colour], rng.uniform(0.9, 1.1))
        _draw_shape(canvas, SHAPES[thing.shape], x, y, half, fill)
    return picture.resize((size, size), Image.Resampling.BOX)


def draw_digit(digit: int, colour: int, rng: random.Random, *, size: int) -> Image.Image:
    """One written digit 0..9, about two thirds of the picture high, somewhere near the middle."""
    picture = _blank(rng, size, grey=False)
    canvas = ImageDraw.Draw(picture)
    full = size * OVERSAMPLING
    font = ImageFont.load_default(size=full * rng.uniform(0.55, 0.75))
    x, y = (full * rng.uniform(0.42, 0.58) for _ in range(2))
    fill = _bright(COLOUR_VALUES[colour], rng.uniform(0.9, 1.1))
    canvas.text((x, y), str(digit), fill=fill, font=font, anchor="mm")
    return picture.resize((size, size), Image.Resampling.BOX)
