"""LibriSpeech: SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, lines ID TRANSCRIPT, and ID.flac next to it. The folder may be
all of it, a split (train-clean-100), or less."""

from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.folders import AUDIO_SUFFIXES, files_under, first_file, has_below
from datamodules.formats.text_file import lines

SUFFIX = ".trans.txt"


def _recognises(path: Path) -> bool:
    return has_below(path, SUFFIX, depth=3)


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    absolute = path.absolute()
    for file in files_under(absolute):
        if not file.name.endswith(SUFFIX):
            continue
        inside = file.relative_to(absolute)
        split = {"split": inside.parts[-4]} if len(inside.parts) > 3 else {}
        for number, line in lines(file):
            name, _, text = line.strip().partition(" ")
            audio = first_file(file.parent, name, AUDIO_SUFFIXES)
            row = {"id": name, "audio": audio, "text": text, "speaker": name.split("-")[0], **split}
            yield f"{inside}:{number}", audio if isinstance(audio, BadRow) else row


LIBRISPEECH = Format(name="librispeech", read=_read, recognises=_recognises, folders=True, shapes=("speech",))
