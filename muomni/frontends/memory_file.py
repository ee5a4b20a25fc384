"""A file in memory: what readers of images and audio take besides paths."""

import io
from pathlib import Path


class MemoryFile(io.BytesIO):
    """The bytes of a file. name: what messages call it, where a path would stand."""

    def __init__(self, data: bytes, *, name: str) -> None:
        super().__init__(data)
        self.name = name

    def __str__(self) -> str:
        return self.name


File = str | Path | MemoryFile


def existing(file: File, *, what: str) -> Path | MemoryFile:
    """A path, or a file in memory at its beginning. Raises FileNotFoundError for a path without a file; what: such as "audio
    file"."""
    if isinstance(file, MemoryFile):
        file.seek(0)
        return file
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no such {what}: {path}")
    return path
