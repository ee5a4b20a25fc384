"""COCO captions: a JSON object of "images" ({"id", "file_name"}) and "annotations" ({"image_id", "caption"}). Images are in the
folder that the file's name ends with (captions_train2017.json: train2017/ next to annotations/), or under data.root. A folder may
be given that holds annotations/captions_*.json, a split each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.formats.entries import BadRow, Entries, Format, Reading, Row
from datamodules.formats.folders import named_file
from datamodules.formats.json_array import load_json
from datamodules.formats.splits import phase_of
from datamodules.formats.text_file import inner_suffix, open_bytes
from muomni.short_repr import shown

KEYS = ('"images"', '"annotations"', '"info"', '"licenses"')


def _tables(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted((path / "annotations").glob("captions_*.json"))


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return bool(_tables(path))
    if inner_suffix(path) != ".json" or not path.is_file():
        return False
    try:
        with open_bytes(path) as file:
            beginning = file.read(4096).decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    except (OSError, EOFError):
        return False
    return beginning.startswith("{") and any(key in beginning for key in KEYS)


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    for table in _tables(path):
        if path.is_file():
            yield from _rows(table)
            continue
        name = table.stem.rpartition("_")[2]
        split = phase_of(name) and {"split": name}
        for number, entry in _rows(table):
            place = f"{table.relative_to(path)}, entry {number}"
            yield place, entry if isinstance(entry, BadRow) else entry | (split or {})


def _rows(table: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """One row an image, in their order; and a BadRow for each caption of no image."""
    whole: Any = load_json(table)
    images, annotations = (whole.get(key) if isinstance(whole, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError(f"{table}: not COCO's captions: an object with the lists 'images' and 'annotations' is needed")
    captions: dict[str, list[str]] = {str(image.get("id")): [] for image in images if isinstance(image, dict)}
    strays = []
    for number, each in enumerate(annotations, start=1):
        image_id, caption = (each.get("image_id"), each.get("caption")) if isinstance(each, dict) else (None, None)
        if isinstance(caption, str) and str(image_id) in captions:
            captions[str(image_id)].append(caption.strip())
        else:
            strays.append(f"annotation {number}: no caption of an image (image_id {shown(image_id)})")
    folder = table.parent.parent.absolute() / table.stem.rpartition("_")[2]
    for number, image in enumerate(images, start=1):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            yield number, BadRow("an image without 'file_name'")
            continue
        name = image["file_name"]
        file = named_file(folder, name)
        if isinstance(file, str) and not os.path.isfile(file):
            file = name
        row = {"id": str(image.get("id")), "image": file, "captions": captions[str(image.get("id"))]}
        yield number, file if isinstance(file, BadRow) else row
    yield from ((len(images), BadRow(stray)) for stray in strays)


COCO = Format(name="coco", read=_read, recognises=_recognises, folders=True, shapes=("image_text", "text", "sft"))
