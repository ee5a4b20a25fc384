"""Common Voice: train.tsv, dev.tsv and test.tsv with the columns client_id, path and sentence, and clips/ next to them. Of the
folder these three are read; its other tables (validated.tsv, other.tsv) hold the same clips and are named as files."""

from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.folders import named_file
from datamodules.formats.table import tsv_rows
from datamodules.formats.text_file import first_line

TABLES = ("train.tsv", "dev.tsv", "test.tsv")
COLUMNS = ("client_id", "path", "sentence")


def _recognises(path: Path) -> bool:
    if path.is_dir():
        tables = [path / name for name in TABLES if (path / name).is_file()]
        return bool(tables) and _recognises(tables[0])
    return path.suffix == ".tsv" and set(COLUMNS) <= {*first_line(path).split("\t")}


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    tables = [path / name for name in TABLES] if path.is_dir() else [path]
    for table in tables:
        if not table.is_file():
            continue
        clips = table.parent.absolute() / "clips"
        for number, entry in tsv_rows(table, needed=(COLUMNS,), reading=Reading()):
            place = f"{table.name}:{number}" if path.is_dir() else number
            if isinstance(entry, BadRow):
                yield place, entry
                continue
            audio = named_file(clips, entry["path"])
            if isinstance(audio, BadRow):
                yield place, audio
                continue
            ours = {"id": entry["path"], "audio": audio, "text": entry["sentence"], "speaker": entry["client_id"]}
            yield place, entry | ours | ({"split": table.stem} if path.is_dir() else {})


COMMON_VOICE = Format(name="common_voice", read=_read, recognises=_recognises, folders=True, shapes=("speech",))
