"""What readers of images and audio take besides paths: a file in memory, and a file inside another one (a member of a tar, a cell
of a table), which is read when it is opened."""

import io
import re
from abc import ABC, abstractmethod
from pathlib import Path, PurePath

SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


class MemoryFile(io.BytesIO):
    """The bytes of a file. name: what messages call it, where a path would stand."""

    def __init__(self, data: bytes, *, name: str) -> None:
        super().__init__(data)
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return repr(self.name)  # as libsndfile's messages name a path


class StoredMedia(ABC):
    """An image or a recording inside another file. Small, picklable and hashable: a row of a data set holds it in place of a
    path, and a batch hands it on. `str()` is its name."""

    @property
    @abstractmethod
    def name(self) -> str:
        """CONTAINER/MEMBER, for messages: different for any two."""

    @property
    def suffix(self) -> str:
        """Of a file that its bytes are written to, ".bin" where the name has none."""
        found = PurePath(self.name).suffix.lower()
        return found if SUFFIX.fullmatch(found) else ".bin"

    @abstractmethod
    def read(self) -> bytes:
        """The bytes of the image file or audio file. Raises OSError where the container cannot be opened, and ValueError naming
        both where it does not hold them."""

    @abstractmethod
    def identity(self) -> str:
        """A text that changes with the container, its size and times, or the place in it: a key of caches."""

    def __str__(self) -> str:
        return self.name


Media = str | StoredMedia  # str: the absolute path of a file
File = str | Path | MemoryFile | StoredMedia


def existing(file: File, *, what: str) -> Path | MemoryFile:
    """A path, or a file in memory at its beginning. Raises FileNotFoundError for a path without a file, and what a stored file's
    `read` does; what: such as "audio file"."""
    if isinstance(file, StoredMedia):
        return MemoryFile(file.read(), name=file.name)
    if isinstance(file, MemoryFile):
        file.seek(0)
        return file
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no such {what}: {path}")
    return path
