"""Files of a world: manifests and images."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

Row = dict[str, Any]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a manifest."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def save_image(image: Image.Image, path: Path) -> None:
    """Write a PNG file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)
