"""VCTK: txt/SPEAKER/ID.txt, and wav48_silence_trimmed/SPEAKER/ID_mic1.flac (version 0.92) or wav48/SPEAKER/ID.wav. Of two
microphones the first is used; a recording without a text is a bad row (the known ones are few)."""

import re
from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.folders import AUDIO_SUFFIXES, folders_in
from datamodules.formats.text_file import lines

FOLDERS = ("wav48_silence_trimmed", "wav48", "wav16", "wav")
MICROPHONE = re.compile(r"_mic(\d)$")


def _audio_folder(path: Path) -> Path | None:
    return next((path / name for name in FOLDERS if (path / name).is_dir()), None)


def _recognises(path: Path) -> bool:
    return (path / "txt").is_dir() and _audio_folder(path) is not None


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    audio = _audio_folder(path.absolute())
    if audio is None:
        raise ValueError(f"{path}: no folder {' or '.join(FOLDERS)}")
    for folder in folders_in(audio):
        recordings: dict[str, Path] = {}
        for file in sorted(folder.iterdir()):  # _mic1 comes first
            if file.suffix.lower() in AUDIO_SUFFIXES:
                recordings.setdefault(MICROPHONE.sub("", file.stem), file)
        for name, file in recordings.items():
            text = path / "txt" / folder.name / f"{name}.txt"
            place = f"{audio.name}/{folder.name}/{file.name}"
            if not text.is_file():
                yield place, BadRow(f"no text: {text.relative_to(path)} is missing")
                continue
            content = " ".join(line.strip() for _, line in lines(text))
            yield place, {"id": name, "audio": str(file), "text": content, "speaker": folder.name}


VCTK = Format(name="vctk", read=_read, recognises=_recognises, folders=True, shapes=("speech",))
