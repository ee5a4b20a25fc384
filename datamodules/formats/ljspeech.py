"""LJSpeech: metadata.csv, lines ID|text|normalised text without quotes, and wavs/ID.wav next to it."""

from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.folders import AUDIO_SUFFIXES, first_file
from datamodules.formats.text_file import first_line, lines

NAME = "metadata.csv"


def _recognises(path: Path) -> bool:
    file = path / NAME if path.is_dir() else path
    if file.name != NAME or not file.is_file():
        return False
    bars = first_line(file).count("|")  # more of them: a bar in the text of the first line, which reading names
    return bars in (1, 2) or (bars > 2 and (file.parent / "wavs").is_dir())


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    file = path / NAME if path.is_dir() else path
    folder = file.parent.absolute() / "wavs"
    for number, line in lines(file):
        place = f"{NAME}:{number}" if path.is_dir() else number
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) not in (2, 3) or not cells[0]:
            yield place, BadRow(f"cells: {len(cells)}; ID|text|normalised text is needed")
            continue
        audio = first_file(folder, cells[0], (".wav", *AUDIO_SUFFIXES))
        text = cells[-1] or cells[1]
        row = {"id": cells[0], "audio": audio, "text": text, "raw_text": cells[1]}
        yield place, audio if isinstance(audio, BadRow) else row


LJSPEECH = Format(name="ljspeech", read=_read, recognises=_recognises, folders=True, shapes=("speech",))
