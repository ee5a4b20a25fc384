"""Folders of Kaldi and ESPnet: wav.scp (ID PATH), text (ID TRANSCRIPT), and, where they are there, utt2spk (ID SPEAKER) and
segments (ID RECORDING BEGIN END, in seconds)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.text_file import lines
from muomni.short_repr import shown

Keyed = dict[str, tuple[str, str]]
"""ID -> (place, rest of its line)."""


def _recognises(path: Path) -> bool:
    return (path / "wav.scp").is_file() and (path / "text").is_file()


def _keyed(file: Path) -> Iterator[tuple[str, str, str]]:
    """(place, ID, rest) of each line."""
    for number, line in lines(file):
        key, *rest = line.strip().split(None, 1)  # a blank or a tab, as Kaldi has it
        yield f"{file.name}:{number}", key, rest[0] if rest else ""


def _table(file: Path) -> tuple[Keyed, list[tuple[str, BadRow]]]:
    """A file's lines by ID, none where there is no such file, and those whose ID came before."""
    table: Keyed = {}
    twice: list[tuple[str, BadRow]] = []
    for place, key, rest in _keyed(file) if file.is_file() else ():
        if key in table:
            twice.append((place, BadRow(f"{shown(key, str)} a second time")))
        else:
            table[key] = (place, rest)
    return table, twice


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    for name in ("wav.scp", "text"):
        if not (path / name).is_file():
            raise ValueError(f"{path}: no {name}")
    recordings, twice = _table(path / "wav.scp")
    segments, twice_cut = _table(path / "segments")
    speakers, twice_spoken = _table(path / "utt2spk")
    yield from (*twice, *twice_cut, *twice_spoken)
    cut, spoken = ((path / name).is_file() for name in ("segments", "utt2spk"))
    heard: set[str] = set()
    for place, key, text in _keyed(path / "text"):
        heard.add(key)
        found = _audio(key, segments, recordings) if cut else _recording(key, recordings)
        if isinstance(found, BadRow):
            yield place, found
            continue
        if spoken and key not in speakers:
            yield place, BadRow(f"{shown(key, str)} is not in utt2spk")
            continue
        yield place, {"id": key, **found, "text": text, **({"speaker": speakers[key][1]} if spoken else {})}
    for key, (place, _) in (segments if cut else recordings).items():
        if key not in heard:
            yield place, BadRow(f"{shown(key, str)} has no line in {path}/text")


def _recording(key: str, recordings: Keyed) -> dict[str, Any] | BadRow:
    if key not in recordings:
        return BadRow(f"{shown(key, str)} is not in wav.scp")
    place, file = recordings[key]
    if file.endswith("|") or file.startswith("|"):
        what = "is a program to run, which is never done: write the recordings to files first"
        return BadRow(f"{place}: {shown(file, str, most=100)} {what}")
    if not file:
        return BadRow(f"{place}: no path")
    if ".ark:" in file:
        return BadRow(
            f"{place}: {shown(file, str, most=100)} is inside an archive: write the recordings to files first"
        )
    return {"audio": file}


def _audio(key: str, segments: Keyed, recordings: Keyed) -> dict[str, Any] | BadRow:
    """The cut of a recording that is utterance `key`."""
    if key not in segments:
        return BadRow(f"{shown(key, str)} is not in segments")
    place, rest = segments[key]
    words = rest.split()
    try:
        recording, begin, end = words[0], float(words[1]), float(words[2])
    except (IndexError, ValueError):
        return BadRow(f"{place}: {shown(rest, str)} is not RECORDING BEGIN END")
    if len(words) > 3:
        return BadRow(f"{place}: {shown(rest, str)} names a channel: write the channels to files of their own first")
    found = _recording(recording, recordings)
    return found if isinstance(found, BadRow) else found | {"segment": [begin, end]}


KALDI = Format(name="kaldi", read=_read, recognises=_recognises, folders=True, shapes=("speech",))
