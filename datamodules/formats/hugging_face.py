"""Hugging Face `datasets`: a folder written by `save_to_disk`, or a data set of the hub by its name (NAME or NAME:CONFIG), which
is downloaded into the library's own cache. Nothing in a data set is executed: the library runs no scripts of others any more."""

import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from datamodules.formats.arrow_rows import TableCell, arrow_rows, class_columns, is_blank
from datamodules.formats.entries import Entries, Format, Reading
from datamodules.formats.extras import imported, naming
from datamodules.media import file_identity

BATCH = 1024
BROKEN = "cannot be read as a data set of Hugging Face"


@dataclass(frozen=True, slots=True)
class DatasetCell(TableCell):
    """A cell of a split of a data set. split: "" where it has none."""

    split: str

    def fetch(self) -> Any:
        with naming(self.name, "cannot be read"):
            return _column(self.container, self.split, self.column)[self.row].column(0)[0].as_py()

    def identity(self) -> str:
        state = Path(self.container) / (self.split or ".") / "state.json"
        which = file_identity(state) if state.is_file() else _splits(self.container)[self.split]._fingerprint
        return f"{self.container}\0{self.split}\0{which}\0{self.row}\0{self.column}\0{self.item}"


def _recognises(path: Path) -> bool:
    if (path / "dataset_dict.json").is_file():
        return True
    return (path / "dataset_info.json").is_file() and (path / "state.json").is_file()


@lru_cache(maxsize=8)
def _splits(source: str) -> Mapping[str, Any]:
    """Split -> data set. Raises ValueError naming the source."""
    datasets = imported("datasets", source)
    with naming(source, BROKEN):
        found = datasets.load_from_disk(source) if Path(source).is_dir() else _from_hub(datasets, source)
    found = found if isinstance(found, dict) else {"": found}
    return {str(name): each.with_format("arrow") for name, each in found.items()}


def _from_hub(datasets: Any, source: str) -> Any:
    name, _, config = source.partition(":")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with ExitStack() as stack:
        if not _reachable():  # it would try for half a minute
            for settings in datasets.config, imported("huggingface_hub.constants", source):
                stack.enter_context(_offline(settings))
        return datasets.load_dataset(name, config or None)


@contextmanager
def _offline(settings: Any) -> Iterator[None]:
    """The library that has these settings looks only into its cache."""
    before = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        settings.HF_HUB_OFFLINE = before


def _reachable() -> bool:
    """Whether the hub's name can be resolved, unless a proxy does that."""
    host = urllib.parse.urlsplit(imported("huggingface_hub.constants", "hub").ENDPOINT).hostname
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


@lru_cache(maxsize=64)
def _column(source: str, split: str, column: str) -> Any:
    return _splits(source)[split].select_columns([column])


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    source = str(path.absolute()) if path.is_dir() else str(path)
    for split, dataset in _splits(source).items():
        classes = class_columns(dataset.data.table.schema)

        def cell(row: int, column: str, item: int | None, name: str | None, split: str = split) -> DatasetCell:
            return DatasetCell(source, row, column, item, name or "", split)

        number = 0
        with naming(source, BROKEN):
            for batch in dataset.iter(BATCH):
                for row in arrow_rows(batch, first=number, cell=cell, classes=classes):
                    number += 1
                    place = f"{split}, row {number}" if split else f"row {number}"
                    if not is_blank(row, shape, reading):
                        yield place, {"split": split, **row} if split else row


HUGGING_FACE = Format(name="datasets", read=_read, recognises=_recognises, folders=True)
