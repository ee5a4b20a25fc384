"""Conversations that stay on the disk: the samples of those in memory, and what is refused."""

import json
import pickle

import numpy as np
import pytest
import torch

from datamodules import large_manifests
from datamodules.conditions import Conditions
from datamodules.large_conversations import LargeConversations
from datamodules.mixture import select_evenly, select_evenly_of
from datamodules.packs.writer import write_pack
from muomni.frontends.audio_io import write_audio
from muomni.frontends.hearing import HearingSpec
from tests.unit.datamodules.test_sft import folder as folder
from tests.unit.datamodules.test_sft import make, row


@pytest.fixture
def large(monkeypatch):
    """From here on every manifest and pack counts as large."""

    def switch():
        monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
        monkeypatch.setattr(large_manifests, "LARGE_PACK", 1)

    return switch


def same(one, other):
    assert one.ids.equal(other.ids) and one.targets.equal(other.targets) and one.branches is other.branches is None
    assert len(one.images) == len(other.images) and all(map(torch.equal, one.images, other.images))
    assert len(one.mels) == len(other.mels) and all(map(torch.equal, one.mels, other.mels))
    assert (one.question, one.row["task"], one.row["id"]) == (other.question, other.row["task"], other.row["id"])


@pytest.mark.parametrize("packed", [False, True])
def test_samples_are_those_of_rows_in_memory(folder, large, packed):
    train = folder / "train.jsonl"
    cache = str(folder / "cache")
    small = make(folder).samples("train")
    if packed:
        write_pack(small.rows, folder / "pack", shape="sft", shard_bytes=1 << 20, source="", what="rows")
        train = folder / "pack"
    large()
    data = make(folder, train=str(train), cache=cache)
    samples = data.samples("train")
    assert isinstance(samples, LargeConversations) and len(samples) == len(small) == 5
    assert data.lengths(samples).tolist() == small.lengths.tolist()
    again = pickle.loads(pickle.dumps(samples))
    for index in range(5):
        assert samples.name(index) == small.name(index)
        same(again.item(index, 0), small.item(index, 0))
    loaded = next(iter(data.train_dataloader()))
    assert loaded.ids.shape[0] == 2 and data.samples("test/same").drawing.simulate is None


def test_shares_curriculum_and_images_that_are_not_taken(folder, large):
    rows = [row(f"t{n}", ("asr", "qa")[n % 3 == 0], "what?", f"answer {n}") for n in range(30)]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, row("i", "qa", "what?", "red", image="a.png")])))
    options = {"train": str(path), "shares": {"asr": 0.5}, "curriculum": {"qa": 1.0}, "cache": str(folder / "cache")}
    small = make(folder, **options)
    large()
    data = make(folder, **options)
    names, expected = (
        [each.name(n) for n in range(len(each))] for each in (data.samples("train"), small.samples("train"))
    )
    assert names == expected
    masks = [each.curriculum_mask(each.samples("train")).tolist() for each in (data, small)]
    assert masks[0] == masks[1] and sum(masks[0]) == 11
    blind = make(folder, **options | {"image_tokens": "none", "shares": {}}).samples("train")
    assert len(blind) == 30 and all("image" not in str(each["messages"]) for each in blind.rows)


def test_documents_are_replayed(folder, large):
    (folder / "text.jsonl").write_text(
        "\n".join(json.dumps({"id": n, "text": f"the dot is red {n}"}) for n in range(20))
    )
    options = {"replay": str(folder / "text.jsonl"), "replay_share": 0.5, "cache": str(folder / "cache")}
    large()
    data = make(folder, **options)
    samples = data.samples("train")
    assert len(samples) == 10 and len(samples.lengths) == 10
    replayed = [samples.item(index, 0) for index in range(5, 10)]
    assert all(each.row["task"] == "replay" and each.row["id"].startswith("replay-") for each in replayed)
    assert len({samples.name(index) for index in range(10)}) == 10
    assert [len(each.ids) for each in replayed] == samples.lengths[5:].tolist()
    assert data.collate_train([replayed[0], samples.item(4, 0)]).replayed[:, 0].tolist() == [True, False]


def test_conditions_are_those_of_the_recording(folder, large):
    hearing = HearingSpec(level=0.0, margin=0.1, pause=0.5, threshold=3.0, edge=-5.0)
    how = Conditions(noise=1.0, snr=(5, 5), telephone=0.0, silence=0.0, margin=0.1)
    large()
    data = make(folder, conditions=how, hearing=hearing, cache=str(folder / "cache"))
    samples = data.samples("train")
    first, second = samples.item(2, 0), samples.item(3, 5)
    assert first.mels[0].equal(second.mels[0]) and first.audio_keys[0].endswith("#recorded")
    assert all(len(samples.item(n, 0).ids) <= samples.lengths[n] for n in range(5)), "the silence around it is counted"


def test_what_does_not_fit_is_counted_or_refused(folder, large, caplog):
    write_audio(folder / "long.wav", torch.zeros(160000) + 0.1, 16000)
    good = [row(f"t{n}", "qa", "what?", f"answer {n}") for n in range(400)]
    bad = [row("long", "qa", "what? " * 80, "red"), row("sound", "asr", "said?", "dot", audio="long.wav")]
    (folder / "broken.wav").write_bytes(b"RIFF")
    bad.append(row("broken", "asr", "said?", "dot", audio="broken.wav"))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [*good, *bad])))
    large()
    samples = make(folder, train=str(path), cache=str(folder / "cache")).samples("train")
    assert len(samples) == 400
    assert "2 of 403 rows are left out: longer than 64 tokens" in caplog.text
    assert "skipped 1 of 403 samples; the first: broken: cannot read" in caplog.text
    path.write_text("\n".join(map(json.dumps, [*good[:20], bad[0]])))
    with pytest.raises(ValueError, match="1 of 21 rows do not fit 64 tokens; the first: long: Too many tokens"):
        make(folder, train=str(path), cache=str(folder / "cache")).samples("train")


def test_shares_of_numbers_are_those_of_names():
    labels = [("a", "b", "c")[n * n % 7 % 3] for n in range(1000)]
    shares = {"a": 0.3, "b": 0.0}
    codes = np.array(["abc".index(label) for label in labels])
    chosen = select_evenly_of(codes, "abc", shares, default=1.0)
    expected = select_evenly(labels, shares, default=1.0)
    assert np.abs(np.cumsum(chosen.astype(int) - expected)).max() <= 1, "but for the rounding of a sum"
    with pytest.raises(ValueError, match="a: 2: a share"):
        select_evenly_of(codes, "abc", {"a": 2}, default=1.0)
