"""python -m datamodules.pack MANIFEST out=FOLDER     a data set as tar files with an index, for data.train=FOLDER

    shape=text|image_text|speech|ocr|sft    what the rows are; left out: what the first row is
    root=DIR            folder of the media paths; left out: the manifest's own
    shard_mb=256        size of a tar file
    cache=DIR           where the index of a large manifest is kept; left out: a temporary folder

The tar files are read by `tar` and by webdataset, too: 000000000.json (the row) and 000000000.flac (its recording) are a sample.
Rows whose media cannot be read are left out and counted; over 1 % of them is an error. An interrupted packing is continued
by the same command. docs/packs.md has more.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.fingerprint import digest
from datamodules.formats import BadRow, read_entries
from datamodules.manifests import CHECKS, read_manifest
from datamodules.packs.index import is_pack
from datamodules.packs.writer import write_pack
from muomni.cli.key_value import run_program, split_options

OPTIONS = {"out": "", "shape": "", "root": "", "shard_mb": 256.0, "cache": ""}
SHAPES = ("speech", "image_text", "ocr", "text", "sft")  # in the order in which a row is tried as one


def guess_shape(path: Path, root: Path) -> str:
    """The shape that the first row of a manifest has. Raises ValueError where it has none."""
    reasons = []
    for shape in SHAPES:
        try:
            row = next((row for _, row in read_entries(path, shape=shape)), BadRow("no rows"))
            if isinstance(row, BadRow):
                raise row
            CHECKS[shape](row, root)
            return shape
        except ValueError as error:
            reasons.append(f"{shape}: {error}")
    raise ValueError(f"{path}: its first row is of no shape; give shape= ({'; '.join(reasons)})")


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
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such manifest")
    root = options["root"] or None
    shape = options["shape"] or guess_shape(path, Path(root or path.parent).absolute())
    rows = read_manifest(path, shape=shape, root=root, cache=options["cache"] or None)
    samples = write_pack(
        rows, out, shape=shape, shard_bytes=round(options["shard_mb"] * 2**20), source=digest(path), what=str(path)
    )
    print(f"{out}: {samples} samples of shape {shape}; read it with data={shape} data.train={out}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run_program(lambda words: main(words))
