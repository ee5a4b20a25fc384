"""Pictures with captions: the scenes of every split, their files and manifest rows.

Items 2j and 2j + 1 make one pair: twins (the colours of two objects exchanged, same sizes, same layout) or two
unrelated scenes. Half of the pairs of train, val and test_para are twins, and all of test_iid and test_comp, so that
any fifty captions of them and their fifty twins are a retrieval test. test_comp shows a held-out pair, test_count five
objects.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from datamodules.world.captions import caption, caption_digit, draw_kind, enumerate_things, object_records
from datamodules.world.draw import draw_digit, draw_picture
from datamodules.world.files import Row, save_image
from datamodules.world.lexicon import COLOURS
from datamodules.world.rng import Choices, digest, item_rng
from datamodules.world.scene import (
    COUNT_TEST_OBJECTS,
    Pairs,
    Scene,
    draw_held_out,
    draw_scene,
    draw_single,
    draw_twins,
    scene_split,
    swap,
    twin_count,
    without_colours,
)
from datamodules.world.spec import WorldSpec
from datamodules.world.wording import Wording

SPLITS = ("train", "val", "test_iid", "test_comp", "test_count", "test_para")
ALL_TWINS = ("test_iid", "test_comp")
SHUFFLED = 0.5  # chance of a caption whose objects are not in reading order


class PictureWorld:
    """The scenes of one world's pictures."""

    def __init__(self, spec: WorldSpec):
        self.spec = spec
        self.pairs = Pairs(rotation=spec.rotation, held_out=spec.held_out)
        self.wording = Wording(rotation=spec.wording, canonical=spec.canonical)

    def digit(self, split: str, index: int) -> tuple[int, int] | None:
        """(digit, colour) where picture `index` shows a written digit instead of a scene, else None."""
        rng = item_rng(self.spec.seed, split, "digit", index // 2)
        if split not in ("train", "val") or rng.random() >= self.spec.digits:
            return None
        bits = digest(self.spec.seed, split, "digit value", index)
        return bits % 10, bits // 10 % len(COLOURS)

    def scene(self, split: str, index: int) -> tuple[Scene, bool]:
        """Scene `index` of a split, and whether its partner (index ^ 1) is its twin."""
        rng = item_rng(self.spec.seed, split, "scene", index // 2)
        if split == "test_count":
            draw = partial(draw_scene, pairs=self.pairs, count=COUNT_TEST_OBJECTS)
            return self._first(split, lambda: [draw(Choices(rng))])[0], False
        if split in ALL_TWINS or rng.random() < 0.5:
            twins = self._held_out_twins if split == "test_comp" else partial(draw_twins, pairs=self.pairs)
            return self._first(split, lambda: twins(Choices(rng)))[index % 2], True
        # half of the pairs are not twins
        grey = split == "train" and rng.random() < 2 * self.spec.monochrome
        crowded = split == "train" and rng.random() < 2 * self.spec.crowded
        rng = item_rng(self.spec.seed, split, "single scene", index)
        scene = self._first(split, lambda: [draw_single(Choices(rng), self.pairs, crowded=crowded)])[0]
        return (without_colours(scene) if grey else scene), False

    def _first(self, split: str, draw: Callable[[], Sequence[Scene]]) -> Sequence[Scene]:
        """The first drawn scene or twins whose content belongs to the split."""
        while True:
            scenes = draw()
            if scene_split(self.spec.seed, scenes[0]) == split.split("_")[0]:
                return scenes

    def _held_out_twins(self, choices: Choices) -> Sequence[Scene]:
        """Twins by exchanged colours; the first shows a held-out pair, which takes part in the exchange."""
        count = twin_count(choices)
        while True:
            scene, (first,) = draw_held_out(choices, self.pairs, count=count, held_out=1)
            second = choices.pick([other for other in range(count) if other != first])
            if scene[first].colour == scene[second].colour or scene[first].shape == scene[second].shape:
                continue
            things = list(scene)
            things[second] = replace(things[second], size=things[first].size)
            return tuple(things), swap(tuple(things), first, second, "colour")

    def captions(self, split: str, index: int, scene: Scene) -> list[str]:
        """Captions of a scene: the first of any kind, in train also the description and one more; in test_para two lists in
        held-out wording."""
        choices = Choices(item_rng(self.spec.seed, split, "caption", index))
        if split == "test_para":
            found = [enumerate_things(choices, self.wording, scene, "held_out") for _ in range(2)]
        else:
            kinds = [draw_kind(choices, len(scene))]
            kinds += ["description", draw_kind(choices, len(scene))] if split == "train" else []
            found = [caption(choices, self.wording, scene, kind=kind, shuffled=SHUFFLED) for kind in kinds]
        return list(dict.fromkeys(found))


def picture_path(split: str, index: int) -> str:
    """Path of picture `index`, relative to the manifest's folder."""
    return f"images/{split}/{index // 1000:03d}/{index:06d}.png"


def picture_counts(spec: WorldSpec) -> dict[str, int]:
    """How many pictures each split has; even, so that twins stay together."""
    return {split: (spec.train_pictures if split == "train" else spec.eval_pictures + 1) // 2 * 2 for split in SPLITS}


def write(spec: WorldSpec, folder: Path, split: str, start: int, stop: int) -> list[Row]:
    """Draw the pictures start..stop of a split under `folder` and return their manifest rows."""
    world = PictureWorld(spec)
    rows = []
    for index in range(start, stop):
        rng = item_rng(spec.seed, split, "picture", index)
        digit = world.digit(split, index)
        if digit is not None:
            picture = draw_digit(*digit, rng, size=spec.image_size)
            content: Row = {"captions": [caption_digit(Choices(rng), world.wording, *digit)], "objects": [], "twin": None,
                            "digit": {"digit": digit[0], "colour": COLOURS[digit[1]]}}  # fmt: skip
        else:
            scene, twinned = world.scene(split, index)
            picture = draw_picture(scene, rng, size=spec.image_size)
            content = {"captions": world.captions(split, index, scene), "objects": object_records(scene),
                       "twin": f"picture-{split}-{index ^ 1}" if twinned else None}  # fmt: skip
        path = picture_path(split, index)
        save_image(picture, folder / path)
        rows.append({"id": f"picture-{split}-{index}", "image": path, "split": split, **content})
    return rows
