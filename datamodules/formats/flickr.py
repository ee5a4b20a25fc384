"""Flickr8k and Flickr30k: Flickr8k.token.txt, lines "a.jpg#0<tab>caption", with Flickr_8k.trainImages.txt, .devImages.txt and
.testImages.txt as splits; or captions.txt, a CSV image,caption. Images are in a folder next to it."""

import re
from collections.abc import Iterator
from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading, Row
from datamodules.formats.folders import named_file
from datamodules.formats.table import csv_rows
from datamodules.formats.text_file import first_line, lines

FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images", "flickr30k-images", "Images", "images")
LINE = re.compile(r"(.+?)#\d+\t(.*)")
SPLIT_FILES = {"train": "*trainImages.txt", "dev": "*devImages.txt", "test": "*testImages.txt"}


def _table(path: Path) -> Path | None:
    if path.is_dir():
        inside = [*path.glob("*.token*"), *path.glob("*/*.token*"), path / "captions.txt"]
        return next((each for each in sorted(inside) if _recognises(each)), None)
    return path


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return _table(path) is not None
    if not path.is_file() or path.suffix not in (".txt", ".token"):
        return False
    return bool(LINE.match(first_line(path))) if ".token" in path.name else _is_csv(path)


def _is_csv(path: Path) -> bool:
    return path.name == "captions.txt" and first_line(path).strip() == "image,caption"


def _captions(table: Path) -> Iterator[tuple[int, tuple[str, str] | BadRow]]:
    """(line, (file name, caption))."""
    if _is_csv(table):
        for number, row in csv_rows(table, needed=(("image", "caption"),), reading=Reading()):
            assert isinstance(number, int)
            yield number, (row["image"], row["caption"]) if isinstance(row, dict) else row
        return
    for number, line in lines(table):
        found = LINE.fullmatch(line)
        yield number, (found[1], found[2]) if found else BadRow("not FILE#NUMBER<tab>caption")


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    table = _table(path)
    if table is None:
        raise ValueError(f"{path}: no Flickr8k.token.txt or captions.txt")
    inside = table.name if path.is_file() else str(table.relative_to(path))
    folder = _images(table)
    splits = {
        line.strip(): {"split": split}
        for split, pattern in SPLIT_FILES.items()
        for file in table.parent.glob(pattern)
        for _, line in lines(file)
    }
    rows: dict[str, tuple[int | str, Row]] = {}
    for number, found in _captions(table):
        place = number if path.is_file() else f"{inside}:{number}"
        if isinstance(found, BadRow):
            yield place, found
            continue
        name, caption = found
        if name not in rows:
            image = named_file(folder, name)
            if isinstance(image, BadRow):
                yield place, image
                continue
            rows[name] = place, {"id": name, "image": image, "captions": [], **splits.get(name, {})}
        rows[name][1]["captions"].append(caption.strip())
    yield from rows.values()


def _images(table: Path) -> Path:
    """The folder of the images: next to the table, or next to its folder."""
    here = table.parent.absolute()
    places = (folder / name for folder in (here, here.parent) for name in FOLDERS)
    return next((place for place in places if place.is_dir()), here)


FLICKR = Format(name="flickr", read=_read, recognises=_recognises, folders=True, shapes=("image_text", "text", "sft"))
