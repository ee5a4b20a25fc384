"""Folders of images, one a class: dog/a.jpg, cat/b.jpg. The folder's name is the class."""

import os
from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.folders import IMAGE_SUFFIXES, TRIED, files_under, folders_in
from datamodules.formats.splits import SPLITS

LOOKED_AT = 1000  # names of a folder, to recognise it


def _recognises(path: Path) -> bool:
    """Folders inside that are no splits, the first of them with images."""
    if not path.is_dir():
        return False
    folders = folders_in(path)
    if not folders or any(each.name.lower() in SPLITS for each in folders):
        return False
    return all(map(_has_image, folders[:TRIED]))


def _has_image(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = [each.name for each, _ in zip(entries, range(LOOKED_AT), strict=False)]
    return any(name.lower().endswith(IMAGE_SUFFIXES) for name in names)


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    absolute = path.absolute()
    for folder in folders_in(absolute):
        for file in files_under(folder):
            name = str(file.relative_to(absolute))
            if file.suffix.lower() in IMAGE_SUFFIXES:
                yield name, {"id": name, "image": str(file), "class": folder.name.replace("_", " ")}
            else:
                yield name, BadRow(f"no image by its suffix ({', '.join(IMAGE_SUFFIXES)})")


IMAGE_FOLDER = Format(name="image_folder", read=_read, recognises=_recognises, folders=True, shapes=("image_text",))
