"""Data as others keep it, a format a file: its entries, whatever it is.

A format is recognised by a file's suffix, or by what a folder or a special file holds; `data.format=NAME` forces one. A folder
whose files or folders are named after splits (train.jsonl, dev/), or that holds shards of one format, is read as all of them.
docs/data/formats.md has an example of each.
"""

from pathlib import Path
from typing import Any

from datamodules.formats.captions import as_conversation, as_document
from datamodules.formats.cifar import CIFAR
from datamodules.formats.coco import COCO
from datamodules.formats.common_voice import COMMON_VOICE
from datamodules.formats.conversations import with_messages
from datamodules.formats.entries import BadRow, Entries, Format, Reading, Row
from datamodules.formats.flickr import FLICKR
from datamodules.formats.hugging_face import HUGGING_FACE
from datamodules.formats.image_folder import IMAGE_FOLDER
from datamodules.formats.json_array import JSON_ARRAY
from datamodules.formats.json_lines import JSON_LINES
from datamodules.formats.kaldi import KALDI
from datamodules.formats.librispeech import LIBRISPEECH
from datamodules.formats.ljspeech import LJSPEECH
from datamodules.formats.metadata_folder import METADATA_FOLDER
from datamodules.formats.npz_images import NPZ
from datamodules.formats.parquet import ARROW, PARQUET
from datamodules.formats.splits import split_files
from datamodules.formats.table import CSV, TSV
from datamodules.formats.text_file import inner_suffix
from datamodules.formats.text_lines import TEXT_LINES
from datamodules.formats.vctk import VCTK
from muomni.short_repr import shown

__all__ = ["FORMATS", "SHARDS", "BadRow", "Entries", "Reading", "Row", "entry_place", "format_of", "read_entries"]

FILES = (JSON_LINES, JSON_ARRAY, CSV, TSV, PARQUET, ARROW, NPZ, TEXT_LINES)
#: In the order in which they are tried; images by class come last, since so much else is folders of files.
FOLDERS = (
    HUGGING_FACE, CIFAR, KALDI, LJSPEECH, VCTK, COMMON_VOICE, COCO, FLICKR, METADATA_FOLDER, LIBRISPEECH, IMAGE_FOLDER,
)  # fmt: skip
FORMATS: dict[str, Format] = {each.name: each for each in (*FILES, *FOLDERS)}
BY_SUFFIX = {suffix: format_ for format_ in FILES for suffix in format_.suffixes}
SHARDS = (".parquet", ".arrow", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")  # suffixes of which a folder may hold many


def read_entries(path: Path, *, shape: str, reading: Reading | None = None) -> Entries:
    """(number, entry) of every entry, under our keys.

    An entry that cannot be read is a BadRow in its place. Raises ValueError, naming file and line, for data that cannot
    be read as a whole: another format or encoding, no array, columns that are missing, a quote that swallows lines.
    """
    reading = reading or Reading()
    found: set[str] = set()
    for number, entry in _entries(path, shape, reading):
        if isinstance(entry, BadRow):
            yield number, entry
            continue
        if reading.columns:
            found |= entry.keys()
        row = _in_shape(reading.renamed(entry), shape, reading)
        yield number, row if isinstance(row, BadRow) else reading.with_split(row, number)
    for key, name in reading.columns.items():
        if name not in found:
            columns = shown(", ".join(sorted(found)), str, most=300)
            raise ValueError(f"{path}: no row has the column {shown(name)} (data.columns.{key}); there are {columns}")


def _in_shape(row: Row, shape: str, reading: Reading) -> Row | BadRow:
    """What stands for the keys of a shape, in any format: a class for a caption, LLaVA's turns for messages, captions for a
    document or for the answer to a request."""
    if shape == "sft":
        conversation = with_messages(row)
        return conversation if isinstance(conversation, BadRow) else as_conversation(conversation)
    if shape == "text":
        return as_document(row)
    if shape == "image_text" and isinstance(row.get("class"), str) and not {"captions", "caption"} & row.keys():
        row["captions"] = [reading.class_caption.replace("{class}", row["class"])]
    return row


def entry_place(path: Path, number: int | str) -> str:
    """How messages name an entry: FILE:LINE; where there are no lines FILE, entry NUMBER; of a folder FOLDER/FILE:LINE."""
    if isinstance(number, str):
        return f"{path}/{number}"
    format_ = BY_SUFFIX.get(inner_suffix(path))
    return (JSON_LINES if format_ is None else format_).place.format(path=path, number=number)


def format_of(path: Path, *, shape: str, reading: Reading) -> Format | None:
    """The format of a file or folder; None for a folder of several files. Raises ValueError where none is known."""
    if reading.format is not None:
        if reading.format not in FORMATS:
            raise ValueError(f"data.format={reading.format!r}; available: {', '.join(FORMATS)}")
        forced = _fitting(FORMATS[reading.format], path, shape)
        return None if path.is_dir() and (not forced.folders or _parts(path, shape)) else forced
    for format_ in FOLDERS:
        if format_.recognises is not None and format_.recognises(path):
            return _fitting(format_, path, shape)
    if path.is_dir():
        if _parts(path, shape):
            return None
        inside = shown(", ".join(sorted(each.name for each in path.iterdir())), str, most=100)
        known = ", ".join(each.name for each in FOLDERS)
        raise ValueError(f"{path}: a folder of no known format ({inside}); data.format= names one of {known}")
    by_suffix = BY_SUFFIX.get(inner_suffix(path), TEXT_LINES if shape == "text" else None)
    if by_suffix is None:
        known = f"a manifest of shape {shape} is .jsonl, .json or .csv, others are in docs/data.md"
        raise ValueError(f"{path}: unknown format {inner_suffix(path)!r}; {known}")
    return _fitting(by_suffix, path, shape)


def _fitting(format_: Format, path: Path, shape: str) -> Format:
    if format_.shapes is not None and shape not in format_.shapes:
        raise ValueError(f"{path}: {format_.name} holds {' or '.join(format_.shapes)}, and {shape} is needed")
    return format_


def _parts(path: Path, shape: str) -> list[tuple[str | None, Path]]:
    """(split, file or folder) of a folder's parts."""
    suffixes = [suffix for suffix in SHARDS if shape == "text" or suffix != ".txt"]
    return split_files(path, is_data=lambda file: inner_suffix(file) in (*BY_SUFFIX, *suffixes), shards=suffixes)


def _entries(path: Path, shape: str, reading: Reading) -> Entries:
    format_ = format_of(path, shape=shape, reading=reading)
    if format_ is not None:
        yield from format_.read(path, shape, reading)
        return
    parts = _parts(path, shape)
    if not parts:
        raise ValueError(f"{path}: a folder, and none of its files is of format {reading.format}")
    for split, part in parts:
        more: dict[str, Any] = {} if split is None else {"split": split}
        for number, entry in _entries(part, shape, reading):
            yield entry_place(part.relative_to(path), number), entry if isinstance(entry, BadRow) else more | entry
