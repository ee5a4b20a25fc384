"""A number of each of many rows: the same by one process and by several; what goes wrong is raised."""

import json
import os

import numpy as np
import pytest

from datamodules import large_manifests, parallel_rows
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import read_manifest

COUNT = 50


@pytest.fixture
def rows(tmp_path, monkeypatch) -> LazyRows:
    """Of a large manifest; seven rows are already many, and three are handed over at a time."""
    monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
    monkeypatch.setattr(parallel_rows, "FEW", 7)
    monkeypatch.setattr(parallel_rows, "CHUNK", 3)
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": "x" * (row + 1), "split": "val" if row % 5 == 0 else "train"}) for row in range(COUNT)]
    path.write_text("\n".join(lines))
    found = read_manifest(path, shape="text", split="train", cache=tmp_path / "cache")
    assert isinstance(found, LazyRows)
    return found


def with_cores(monkeypatch, cores):
    monkeypatch.setattr(parallel_rows, "available_cores", lambda: cores)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_the_column_is_that_of_the_rows(rows, monkeypatch, cores):
    with_cores(monkeypatch, cores)
    values = rows.column(f"length {cores}", lambda row: len(row["text"]), dtype=np.int32)
    assert values.tolist() == [row + 1 for row in range(COUNT) if row % 5]


def test_processes_share_the_rows(rows, monkeypatch):
    with_cores(monkeypatch, 2)
    processes = set(rows.column("process", lambda row: os.getpid(), dtype=np.int64).tolist())
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2


def test_few_rows_start_no_process(rows, monkeypatch):
    with_cores(monkeypatch, 2)
    monkeypatch.setattr(parallel_rows, "FEW", COUNT + 1)
    assert set(rows.column("process", lambda row: os.getpid(), dtype=np.int64).tolist()) == {os.getpid()}


def test_what_a_row_raises_is_raised_and_nothing_is_kept(rows, monkeypatch):
    with_cores(monkeypatch, 2)

    def refuse(row):
        raise ValueError(f"no {row['id']}")

    with pytest.raises(ValueError, match=r"^no .*rows.jsonl:1$"):
        rows.column("refused", refuse, dtype=np.int32)
    assert rows.column("refused", lambda row: 4, dtype=np.int32)[0] == 4


def test_a_process_that_dies_is_an_error_of_one_line(rows, monkeypatch):
    with_cores(monkeypatch, 2)

    def die(row):
        if len(row["text"]) == 31:
            os._exit(3)
        return 0

    with pytest.raises(ValueError, match=r"^a process ended while it read one of the rows from \d+ on: [^\n]*$"):
        rows.column("dead", die, dtype=np.int32)
