"""Data without splits of its own: shares of its rows are validation and test, the same in every format and size."""

import json

import pytest

from datamodules import large_manifests
from datamodules.formats import Reading
from datamodules.manifests import read_manifest
from datamodules.packs.writer import write_pack
from datamodules.sources import resolve_sources
from tests.unit.datamodules.format_data import CAPTIONS, N, captions_flickr_csv

SHARES = Reading(split_shares={"val": 0.1, "test": 0.2})
TEXTS = [f"document number {n}" for n in range(400)]


def read(path, phase, *, shape="text", reading=SHARES, **more):
    return read_manifest(path, shape=shape, phase=phase, reading=reading, **more)


def write(path, texts):
    path.write_text("\n".join(json.dumps({"id": f"n{n}", "text": text}) for n, text in enumerate(texts)))
    return path


@pytest.mark.parametrize("large", [False, True])
def test_each_row_is_of_one_split_and_stays_there(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
    path = write(tmp_path / "x.jsonl", TEXTS)
    splits = {
        phase: [row["id"] for row in read(path, phase, cache=str(tmp_path))] for phase in ("train", "val", "test")
    }
    assert sorted(name for names in splits.values() for name in names) == sorted(f"n{n}" for n in range(400))
    assert 25 <= len(splits["val"]) <= 55 and 60 <= len(splits["test"]) <= 100
    again = write(tmp_path / "y.jsonl", ["another", *TEXTS[1:], "and more"])  # what is added moves no other row
    assert [row["id"] for row in read(again, "val", cache=str(tmp_path)) if row["id"] != "n400"] == splits["val"]


def test_rows_of_one_picture_are_of_one_split_and_what_names_its_split_keeps_it(tmp_path):
    folder = captions_flickr_csv(tmp_path)
    some = Reading(split_shares={"val": 0.5})
    sizes = [
        len(row["captions"])
        for phase in ("train", "val")
        for row in read(folder, phase, shape="image_text", reading=some)
    ]
    assert sizes == [len(CAPTIONS[0])] * N
    rows = [{"id": n, "text": "a text", "split": "train"} for n in range(50)]
    path = tmp_path / "z.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"id": "free", "text": "b"}])))
    assert {row["id"] for row in read(path, "train", reading=Reading(split_shares={"val": 0.99}))} == set(range(50))


def test_a_folder_of_much_text_stays_on_the_disk(tmp_path, monkeypatch):
    """As a few large Parquet files without a split among them; media in Parquet are never copied."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for n in range(2):
        pq.write_table(pa.table({"text": TEXTS[n::2], "url": ["x"] * 200}), tmp_path / f"00{n}_00000.parquet")
    small = {phase: list(read(tmp_path, phase)) for phase in ("train", "val", "test")}
    monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
    cache = tmp_path.parent / "cache"
    for phase, rows in small.items():
        found = read(tmp_path, phase, cache=str(cache))
        assert not isinstance(found, list)
        assert [row["text"] for row in found] == [row["text"] for row in rows]
    assert large_manifests.is_large(tmp_path / "000_00000.parquet", shape="text")
    assert not large_manifests.is_large(tmp_path / "000_00000.parquet", shape="image_text")
    assert not large_manifests.is_large(tmp_path, shape="speech")


def test_shards_with_the_hash_of_the_hub_are_told_apart_by_their_splits(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name, text in (
        ("train-00000-of-00002-2d5a1467fff1081b", "a"),
        ("train-00001-of-00002-5852b56a2bd28fd9", "b"),
        ("validation-00000-of-00001-869c898b519ad725", "c"),
    ):
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.table({"text": [text]}), tmp_path / "data" / f"{name}.parquet")
    plain = Reading()
    assert [row["text"] for row in read(tmp_path, "train", reading=plain)] == ["a", "b"]
    assert [row["text"] for row in read(tmp_path, "val", reading=plain)] == ["c"]


def test_a_pack_without_splits_is_refused(tmp_path):
    write_pack([{"id": "a", "text": "one"}], tmp_path / "p", shape="text", shard_bytes=1 << 20, source="x", what="x")
    with pytest.raises(ValueError, match=r"p: a pack without splits, which data\.split_shares cannot give it"):
        read(tmp_path / "p", "train")


@pytest.mark.parametrize("shares", [{"train": 0.5}, {"val": 0}, {"val": 0.5, "test": 0.5}, {"val": "all"}])
def test_shares_that_leave_nothing_are_refused(shares):
    keys = ("root", "train_split", "val_split", "test_split")
    data = dict.fromkeys(keys) | {"kind": "text", "train": "x", "val": None, "test": None, "split_shares": shares}
    with pytest.raises(ValueError, match=r"^data\.split_shares="):
        resolve_sources(data, stage="thinker", shape="text", world={})
