"""Where the bytes of an image or a recording are: what a row holds under "image" or "audio".

A `str` is the absolute path of a file; a `StoredMedia` is a file inside another one, which the readers of muomni/frontends take
like a path. Rows and batches hand either on as it is; only a reader opens it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from muomni.frontends.audio_io import cut_audio
from muomni.frontends.memory_file import Media, MemoryFile, StoredMedia

__all__ = ["AudioClip", "FileSpan", "Media", "StoredMedia", "file_identity", "media_identity", "open_media"]


def open_media(media: Media) -> BinaryIO:
    """Its bytes as an open file. Raises OSError, or ValueError naming container and member."""
    return MemoryFile(media.read(), name=media.name) if isinstance(media, StoredMedia) else open(media, "rb")


def media_identity(media: Media) -> str:
    """A text that changes with what the medium is and, as far as size and times tell, with what it holds."""
    return media.identity() if isinstance(media, StoredMedia) else file_identity(media)


def file_identity(path: Path | str) -> str:
    """A file's path, size, and times of change: of its content and of its entry in the folder, since an unpacked archive gives
    every file the time that it had when it was packed. Raises OSError where there is none."""
    state = os.stat(path)
    return f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}"


@dataclass(frozen=True, slots=True)
class FileSpan(StoredMedia):
    """Bytes [offset, offset + length) of a file: a member of a tar.

    container: absolute path. member: its name there.
    """

    container: str
    offset: int
    length: int
    member: str

    @property
    def name(self) -> str:
        return f"{self.container}/{self.member}"

    def read(self) -> bytes:
        with open(self.container, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if len(data) < self.length:
            where = f"{self.length} bytes from {self.offset}"
            raise ValueError(f"{self.container}: cut off: it ends inside {self.member} ({where})")
        return data

    def identity(self) -> str:
        return f"{file_identity(self.container)}\0{self.offset}\0{self.length}"


@dataclass(frozen=True, slots=True)
class AudioClip(StoredMedia):
    """Seconds [begin, end) of a recording: an utterance of a segments file."""

    container: str
    begin: float
    end: float

    @property
    def name(self) -> str:
        return f"{self.container}[{self.begin:g}:{self.end:g}]"

    @property
    def suffix(self) -> str:
        return ".wav"

    def read(self) -> bytes:
        return cut_audio(self.container, self.begin, self.end)

    def identity(self) -> str:
        return f"{file_identity(self.container)}\0{self.begin}\0{self.end}"
