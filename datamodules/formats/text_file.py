"""Text files as lines: UTF-8 with or without a byte order mark, any line ends, plain or compressed."""

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.formats.extras import imported

OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda path: imported("pyarrow", path).input_stream(str(path), compression="zstd"),
}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)  # what the readers of damaged files raise
SAMPLED = 4096  # bytes at the beginning


def inner_suffix(path: Path) -> str:
    """The suffix in lower case, under that of a compression: ".jsonl" of x.jsonl.gz."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in OPENERS else suffix


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file, decompressed."""
    return OPENERS.get(path.suffix.lower(), lambda path: path.open("rb"))(path)


@contextmanager
def open_text(path: Path, *, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """A file's text. Inside, what shows that it is no UTF-8, or that a compressed one is damaged, becomes a ValueError that names
    the file and the line."""
    _check_encoding(path)
    try:
        with open_bytes(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError as error:
        line = _undecodable_line(path)
        raise ValueError(f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except DAMAGE as error:
        if path.suffix.lower() not in OPENERS or isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: cannot be decompressed, damaged or cut off ({reason})") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, as they are but for their end (any of \\n, \\r\\n, \\r).

    What else Unicode calls a line separator (U+0085, U+2028, a form feed) is a character of the line.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                yield number, line.removesuffix("\n")


def first_line(path: Path) -> str:
    """The first line that is not blank; empty where there is none, and where the file cannot be read, which reading will say."""
    try:
        return next(lines(path), (1, ""))[1]
    except (ValueError, OSError):
        return ""


def _check_encoding(path: Path) -> None:
    """Raise ValueError for UTF-16 or UTF-32 without a mark at its beginning, which could pass for UTF-8 full of zeros."""
    try:
        with open_bytes(path) as file:
            beginning = file.read(SAMPLED)
    except DAMAGE:
        return  # it comes again where it is read
    if beginning.count(0) > len(beginning) // 4:
        raise ValueError(f"{path}:1: not UTF-8 (every other byte is zero: UTF-16?); save the file as UTF-8")


def _undecodable_line(path: Path) -> int:
    with contextlib.suppress(*DAMAGE), open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
