"""Reads what W&B wrote offline: `run-ID.wandb`, records in blocks of 32 KiB as LevelDB's log has them.

wandb's own reader is no longer Python since it became a Go program; the records are its protobufs.
"""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as proto

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7


def records(path: Path) -> Iterator[Any]:
    """The records of a file, in order."""
    raw, position, partial = path.read_bytes(), FILE_HEADER, b""
    assert raw[:4] == b":W&B"
    while position + HEADER <= len(raw):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, position)
        partial += raw[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last piece of several
            record = proto.Record()
            record.ParseFromString(partial)
            partial = b""
            yield record


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Of each offline run under a run folder, oldest first: id, config, history (rows of metrics), artifacts by name. A run that
    has just been finished is waited for: another process writes its last records."""
    runs = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        patience = time.monotonic() + 10
        while time.monotonic() < patience and not any(
            each.WhichOneof("record_type") == "exit" for each in records(path)
        ):
            time.sleep(0.05)
        run: dict[str, Any] = {"id": None, "config": {}, "history": [], "artifacts": [], "exit": None}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run["id"] = record.run.run_id
                run["config"] |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
            elif kind == "config":
                changed = record.config.update
                run["config"] |= {
                    each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in changed
                }
            elif kind == "history":
                row = {
                    each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in record.history.item
                }
                run["history"].append(row)
            elif kind == "artifact":
                run["artifacts"].append(record.artifact.name)
            elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
                run["artifacts"].append(record.request.log_artifact.artifact.name)
            elif kind == "exit":
                run["exit"] = record.exit.exit_code
        runs.append(run)
    return runs
