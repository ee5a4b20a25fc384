"""The data of the benchmark is what the packer would write."""

import json

from benchmarks.data.prepare import write_index, write_manifest, write_pack
from datamodules import large_manifests
from datamodules.manifests import read_manifest
from datamodules.packs.index import INDEX
from datamodules.packs.writer import write_pack as pack_rows


def test_the_pack_of_the_benchmark_is_that_of_the_packer(tmp_path):
    write_manifest(tmp_path / "rows.jsonl", 300)
    rows = read_manifest(tmp_path / "rows.jsonl", shape="text")
    assert len(rows) == 300
    assert rows[7]["id"] == "row-000000007" and len(rows[7]["text"].split()) == 16
    write_pack(tmp_path / "fast", 300, shard_samples=128)
    pack_rows(rows, tmp_path / "slow", shape="text", shard_bytes=128 * 1024, source="x", what="x")
    for path in (tmp_path / "slow").iterdir():
        if path.name != INDEX:
            assert path.read_bytes() == (tmp_path / "fast" / path.name).read_bytes(), path.name
    fast, slow = (json.loads((tmp_path / name / INDEX).read_text()) for name in ("fast", "slow"))
    assert slow == fast | {"settings": slow["settings"]}
    assert read_manifest(tmp_path / "fast", shape="text") == rows


def test_the_index_of_the_benchmark_is_that_of_the_first_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
    path = tmp_path / "rows.jsonl"
    write_manifest(path, 300)
    read_manifest(path, shape="text", cache=str(tmp_path / "slow"))
    write_index(path, 300, tmp_path / "fast")
    slow, fast = (next((tmp_path / name / "manifests").iterdir()) for name in ("slow", "fast"))
    assert slow.name == fast.name
    for each in slow.iterdir():
        assert each.read_bytes() == (fast / each.name).read_bytes(), each.name
