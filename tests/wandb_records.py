"""Reads an offline run of W&B back from its file: LevelDB's log format, each record a protobuf message."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a `run-ID.wandb`."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    assert content[:4] == b":W&B", path
    at, message = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # a header is never divided
            at += BLOCK - at % BLOCK
            continue
        _, length, form = struct.unpack("<IHB", content[at : at + HEADER])
        piece = content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        message = piece if form in (FULL, FIRST) else message + piece
        if form in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            yield record
