"""python docs/draw_gallery.py: draws the pictures of the page's gallery, with questions and their answers, into
muomni/serving/static/gallery. Scenes of the world's test split, which no training shows."""

import json
from pathlib import Path

from PIL import Image

from datamodules.world.captions import describe
from datamodules.world.draw import draw_picture
from datamodules.world.pictures import PictureWorld
from datamodules.world.questions import candidates
from datamodules.world.rng import item_rng
from datamodules.world.spec import WorldSpec

FOLDER = Path(__file__).parents[1] / "muomni" / "serving" / "static" / "gallery"
SPLIT, COUNT, SIZE, SEED = "test_iid", 6, 72, 0
TYPES = ("where", "colour", "shape", "count")


def entries() -> list[tuple[Image.Image, dict[str, object]]]:
    """Pictures, and what gallery.json says of each."""
    spec = WorldSpec.of("small", seed=SEED)
    world, made = PictureWorld(spec), list[tuple[Image.Image, dict[str, object]]]()
    for index in range(0, 2 * COUNT, 2):  # of twins the first
        scene, _ = world.scene(SPLIT, index)
        rng = item_rng(SEED, SPLIT, "gallery", index)
        picture = draw_picture(scene, rng, size=SIZE)
        asked = [rng.choice(found) for kind in TYPES if (found := candidates(scene, kind))]
        asked = rng.sample(asked, 2)
        questions = {question.text(): question.answer for question in asked}
        about: dict[str, object] = {
            "file": f"{index // 2}.png",
            "description": f"picture with {describe(scene)}",
            "questions": list(questions),
            "answers": list(questions.values()),
        }
        made.append((picture, about))
    return made


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = entries()
    for picture, about in made:
        picture.save(FOLDER / str(about["file"]), optimize=True)
    lines = json.dumps([about for _, about in made], indent=1)
    (FOLDER / "gallery.json").write_text(f"{lines}\n")


if __name__ == "__main__":
    main()
