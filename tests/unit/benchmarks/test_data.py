"""The data of the benchmark is what the packer would write, and its datamodules read it."""

import json
import pickle

import pytest

from benchmarks.data.opening import ComputedRows
from benchmarks.data.prepare import write_index, write_manifest, write_pack
from benchmarks.data.rows import data_of, train_tokenizer
from benchmarks.data.shapes import row_shapes
from datamodules import large_manifests
from datamodules.manifests import read_manifest
from datamodules.packs.index import INDEX
from datamodules.packs.writer import write_pack as pack_rows
from datamodules.shapes import CHECKS

SHAPES = row_shapes()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_the_pack_of_the_benchmark_is_that_of_the_packer(tmp_path, shape):
    write_manifest(tmp_path / "rows.jsonl", 100, shape)
    rows = read_manifest(tmp_path / "rows.jsonl", shape=shape.name)
    assert len(rows) == 100 and rows[7]["id"] == "row-000000007"
    write_pack(tmp_path / "fast", 100, shape, shard_samples=64)
    size = sum(path.stat().st_size - 1024 for path in (tmp_path / "fast").glob("*.tar")) // 100
    pack_rows(rows, tmp_path / "slow", shape=shape.name, shard_bytes=64 * size, source="x", what="x")
    for path in (tmp_path / "slow").iterdir():
        if path.name != INDEX:
            assert path.read_bytes() == (tmp_path / "fast" / path.name).read_bytes(), path.name
    fast, slow = (json.loads((tmp_path / name / INDEX).read_text()) for name in ("fast", "slow"))
    assert slow == fast | {"settings": slow["settings"]}
    assert len(read_manifest(tmp_path / "fast", shape=shape.name)) == 100


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_the_index_of_the_benchmark_is_that_of_the_first_reading(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
    path = tmp_path / "rows.jsonl"
    write_manifest(path, 300, shape)
    read_manifest(path, shape=shape.name, cache=str(tmp_path / "slow"))
    write_index(path, 300, tmp_path / "fast", shape)
    slow, fast = (next((tmp_path / name / "manifests").iterdir()) for name in ("slow", "fast"))
    assert slow.name == fast.name
    for each in slow.iterdir():
        assert each.read_bytes() == (fast / each.name).read_bytes(), each.name
    train_tokenizer(tmp_path)
    data = data_of(shape.name, path, batch=4, workers=0, cache=tmp_path / "fast", root=tmp_path)
    first = next(iter(data.train_dataloader()))
    assert len(getattr(first, "sample_ids", first)) == 4


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_computed_rows_are_rows_of_the_shape(tmp_path, shape):
    rows = pickle.loads(pickle.dumps(ComputedRows(shape, 5, tmp_path)))
    row = rows.read(3)
    CHECKS[shape.name](row, tmp_path)
    assert row["id"] == "row-000000003" and len(rows) == len(rows.columns["split"]) == 5
