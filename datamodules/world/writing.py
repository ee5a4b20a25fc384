"""Pictures of writing: one or two short lines of words, numbers and random letters, printed in one colour on another.

A word belongs to the split that the hash of its letters says, so no word of a test stands in training. Half of the words
are random letters: who reads them knows letters, not words.
"""

import random
from pathlib import Path
from string import ascii_lowercase

from PIL import Image, ImageDraw, ImageFont

from datamodules.world import lexicon
from datamodules.world.files import Row, save_image
from datamodules.world.rng import content_split, item_rng
from datamodules.world.spec import WorldSpec

SPLITS = ("train", "val", "test")
LONGEST = 8  # letters of a word: at 64 pixels each has seven
_WORDS = {
    *lexicon.COLOURS, *lexicon.SHAPES, *lexicon.ACTORS, *lexicon.THINGS, *lexicon.CONTAINERS, *lexicon.WORDS,
    *(value for values in lexicon.RELATION_VALUES.values() for value in values), *lexicon.NAMES,
}  # fmt: skip
KNOWN = sorted(word for word in _WORDS if len(word) <= LONGEST)
LINES = (1, 2)
LINE_WEIGHTS = (2, 1)
RANDOM_SHARE, NUMBER_SHARE = 0.5, 0.15
OVERSAMPLING = 2
LEANING = 0.15  # of a line's height, at most, by which its top is shifted
TURNED = 4.0  # degrees, at most


def _word(rng: random.Random) -> str:
    draw = rng.random()
    if draw < NUMBER_SHARE:
        return str(rng.randrange(10 ** rng.randint(1, 5)))
    if draw < NUMBER_SHARE + RANDOM_SHARE:
        return "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(2, LONGEST)))
    return rng.choice(KNOWN)


def words_of(spec: WorldSpec, split: str, index: int) -> list[str]:
    """The lines of picture `index`: a word each, all of the split."""
    rng = item_rng(spec.seed, split, "writing", index)
    found: list[str] = []
    wanted = rng.choices(LINES, LINE_WEIGHTS)[0]
    while len(found) < wanted:
        word = _word(rng)
        if content_split(spec.seed, "writing", word) == split:
            found.append(word)
    return found


def _ink(rng: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Paper and ink, one dark and one light."""
    dark, light = [tuple(rng.randrange(low, low + 90) for _ in range(3)) for low in (0, 160)]
    return (light, dark) if rng.random() < 0.5 else (dark, light)  # type: ignore[return-value]


def draw_writing(lines: list[str], rng: random.Random, *, size: int) -> Image.Image:
    """Lines below each other as an RGB picture of size x size pixels, as large as fits or down to 0.7 of that; slightly
    leaning, turned and out of place."""
    full = size * OVERSAMPLING
    paper, ink = _ink(rng)
    room = 0.92 * full
    probe = ImageFont.load_default(size=full / 4)
    widest = max(probe.getlength(line) for line in lines) / (full / 4)
    font_size = min(room / widest, room / len(lines) / 1.3) * rng.uniform(0.7, 1.0)
    font = ImageFont.load_default(size=font_size)
    picture = Image.new("RGB", (full, full), paper)
    canvas = ImageDraw.Draw(picture)
    slack_x = max(0.0, room - widest * font_size) / 2
    slack_y = max(0.0, room - 1.3 * font_size * len(lines)) / 2
    x = full / 2 + rng.uniform(-slack_x, slack_x)
    y = full / 2 + rng.uniform(-slack_y, slack_y)
    text = "\n".join(lines)
    canvas.multiline_text((x, y), text, fill=ink, font=font, anchor="mm", align=rng.choice(("left", "center")))
    lean = rng.uniform(-LEANING, LEANING)
    picture = picture.transform(
        picture.size, Image.Transform.AFFINE, (1, lean, -lean * full / 2, 0, 1, 0),
        resample=Image.Resampling.BILINEAR, fillcolor=paper,
    )  # fmt: skip
    picture = picture.rotate(rng.uniform(-TURNED, TURNED), resample=Image.Resampling.BILINEAR, fillcolor=paper)
    return picture.resize((size, size), Image.Resampling.BOX)


def writing_counts(spec: WorldSpec) -> dict[str, int]:
    """How many pictures each split has."""
    return {split: spec.train_writings if split == "train" else spec.eval_writings for split in SPLITS}


def write(spec: WorldSpec, folder: Path, split: str, start: int, stop: int) -> list[Row]:
    """Draw the pictures start..stop of a split under `folder` and return their rows {"id", "image", "text", "split"}."""
    rows = []
    for index in range(start, stop):
        lines = words_of(spec, split, index)
        picture = draw_writing(lines, item_rng(spec.seed, split, "handwriting", index), size=spec.image_size)
        path = f"images/{split}/{index // 1000:03d}/{index:06d}.png"
        save_image(picture, folder / path)
        rows.append({"id": f"writing-{split}-{index}", "image": path, "text": " ".join(lines), "split": split})
    return rows
