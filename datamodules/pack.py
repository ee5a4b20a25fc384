"""python -m datamodules.pack MANIFEST out=FOLDER     a data set as tar files with an index, for data.train=FOLDER

    shape=text|image_text|speech|ocr|sft    what the rows are; left out: what the first row is
    root=DIR            folder of the media paths; left out: the manifest's own
    shard_mb=256        size of a tar file
    format=NAME columns=text:sentence,audio:path class_caption=TEXT    how the manifest is read, as data.format= .. of train.py
    cache=DIR           where the index of a large manifest is kept; left out: a temporary folder

The tar files are read by `tar` and by webdataset, too: 000000000.json (the row) and 000000000.flac (its recording) are a sample.
Rows whose media cannot be read are left out and counted; over 1 % of them is an error. An interrupted packing is continued
by the same command. docs/packs.md has more.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.fingerprint import digest
from datamodules.formats import BadRow, Reading, read_entries
from datamodules.formats.hugging_face import HUGGING_FACE
from datamodules.manifests import CHECKS, read_manifest
from datamodules.packs.index import is_pack
from datamodules.packs.writer import write_pack
from muomni.cli.key_value import run_program, split_options

OPTIONS = {
    "out": "", "shape": "", "root": "", "shard_mb": 256.0, "cache": "", "format": "", "columns": (), "class_caption": "",
}  # fmt: skip
SHAPES = ("speech", "image_text", "ocr", "sft", "text")  # in the order in which a row is tried as one
MEDIA = {"speech": ("audio", "wav"), "image_text": ("image",), "sft": ("messages", "conversations")}  # keys of a shape


def guess_shape(path: Path, root: Path, reading: Reading) -> str:
    """The shape that the first row of a manifest has. Raises ValueError where it has none, also for one with a text whose media
    are not found: it is no row of text."""
    reasons: dict[str, str] = {}
    for shape in SHAPES:
        try:
            row = next((row for _, row in read_entries(path, shape=shape, reading=reading)), BadRow("no rows"))
            if isinstance(row, BadRow):
                raise row
            keys = set(row)
            CHECKS[shape](row, root)
        except ValueError as error:
            reasons[shape] = str(error)
            continue
        named = next((each for each, media in MEDIA.items() if keys & set(media)), None)
        if shape == "text" and named in reasons:
            raise ValueError(
                f"{path}: its first row cannot be used as {named}: {reasons[named]}; shape=text leaves media out"
            )
        return shape
    every = "; ".join(f"{shape}: {reason}" for shape, reason in reasons.items())
    raise ValueError(f"{path}: its first row is of no shape; give shape= ({every})")


def reading_of(options: Mapping[str, Any]) -> Reading:
    """How the manifest is to be read, as `data.format`, `data.columns` and `data.class_caption` say it to train.py."""
    pairs = [word.partition(":") for word in options["columns"]]
    wrong = [ours for ours, colon, theirs in pairs if not (ours and colon and theirs)]
    if wrong:
        raise ValueError(f"columns={','.join(options['columns'])}: OURS:THEIRS,.. is needed, as columns=text:sentence")
    caption = {"class_caption": options["class_caption"]} if options["class_caption"] else {}
    return Reading(format=options["format"] or None, columns={ours: theirs for ours, _, theirs in pairs}, **caption)


def main(words: Sequence[str]) -> None:
    """Pack what the command line names."""
    options, names = split_options(words, OPTIONS)
    if len(names) != 1 or not options["out"]:
        raise ValueError("one manifest and out=FOLDER are needed: python -m datamodules.pack clips.jsonl out=clips")
    path, out = Path(names[0]), Path(options["out"])
    if options["shard_mb"] <= 0:
        raise ValueError(f"shard_mb={options['shard_mb']:g}: must be above 0")
    if is_pack(path):
        raise ValueError(f"{path}: is a pack already")
    if not path.exists() and options["format"] != HUGGING_FACE.name:
        raise FileNotFoundError(f"{path}: no such manifest")
    root, reading = options["root"] or None, reading_of(options)
    own = path if path.is_dir() else path.parent
    shape = options["shape"] or guess_shape(path, Path(root or own).absolute(), reading)
    rows = read_manifest(path, shape=shape, root=root, reading=reading, cache=options["cache"] or None)
    source = digest(path) + ("" if reading == Reading() else reading.identity())
    samples = write_pack(
        rows, out, shape=shape, shard_bytes=round(options["shard_mb"] * 2**20), source=source, what=str(path)
    )
    print(f"{out}: {samples} samples of shape {shape}; read it with data={shape} data.train={out}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run_program(lambda words: main(words))
