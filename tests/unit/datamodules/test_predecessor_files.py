"""micro-omni's data files through train.py's own configuration: what its stages draw is what a JSONL manifest gives."""

import csv
import json
from dataclasses import fields

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from datamodules.sources import resolve_sources
from tests.conftest import ROOT

ROWS = 20


@pytest.fixture
def root(tmp_path):
    """Recordings of half a second in root/clips, at four rates; pictures in root/images."""
    root = tmp_path / "root"
    (root / "clips").mkdir(parents=True)
    (root / "images").mkdir()
    noise = np.random.default_rng(0)
    for number in range(ROWS):
        rate = (8000, 16000, 22050, 44100)[number % 4]
        kind = ("wav", "flac")[number % 2]
        soundfile.write(root / "clips" / f"{number}.{kind}", noise.normal(0, 0.1, rate // 2), rate)
        Image.new("RGB", (20, 12), (10 * number, 5, 90)).save(root / "images" / f"{number}.jpg")
    return root


def clip(number):
    return f"clips/{number}.{('wav', 'flac')[number % 2]}"


def write_table(path, rows):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_json(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")


def write_text(path, rows):
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(row["text"] for row in rows).encode())


TEXTS = [f"Sentence {number}, \"quoted\", of the 'text'." for number in range(ROWS)]
STAGES = {
    "audio": ("speech", "asr.csv", write_table, [{"wav": clip(n), "text": TEXTS[n]} for n in range(ROWS)]),
    "codec": ("speech", "tts.csv", write_table, [{"text": TEXTS[n], "wav": clip(n)} for n in range(ROWS)]),
    "talker": ("speech", "tts.csv", write_table, [{"text": TEXTS[n], "wav": clip(n)} for n in range(ROWS)]),
    "vision": (
        "image_text", "captions.json", write_json,
        [{"image": f"{n}.jpg", "caption": TEXTS[n], "category": "x"} for n in range(ROWS)],
    ),
    "thinker": ("text", "text.txt", write_text, [{"text": text} for text in TEXTS]),
}  # fmt: skip


def datamodule(stage, kind, path, root, home):
    overrides = [f"stage={stage}", "budget=ci", f"data={kind}", f"data.train={path}", f"data.test={path}"]
    overrides += [f"paths.root={home}", "vocab_size=300"] + ([f"data.root={root}"] if kind != "text" else [])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    data, world = OmegaConf.to_container(cfg.data, resolve=True), OmegaConf.to_container(cfg.stage.world)
    sources = resolve_sources(data, stage=stage, shape=cfg.stage.shape, world=world)
    return instantiate(cfg.datamodule, _convert_="all")(**sources)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(torch.nan_to_num(one.double()), torch.nan_to_num(other.double()))
    return one == other


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_draws_the_same_from_micro_omnis_file_and_from_jsonl(tmp_path, root, stage):
    kind, name, write, rows = STAGES[stage]
    write(tmp_path / name, rows)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row | {"id": n}) + "\n" for n, row in enumerate(rows)))
    given, ours = (datamodule(stage, kind, tmp_path / file, root, tmp_path) for file in (name, "t.jsonl"))
    for split in ("train", "val", "test/test"):
        one, two = (data.samples(split) for data in (given, ours))
        assert len(one) == len(two) == ROWS
        batches = [
            data.collate([samples.item(n, -1) for n in range(4)]) for data, samples in ((given, one), (ours, two))
        ]
        names = [field.name for field in fields(batches[0]) if field.name not in ("sample_ids", "groups")]
        assert [name for name in names if not same(getattr(batches[0], name), getattr(batches[1], name))] == []
    if kind == "speech":
        frames = [given.samples("val").item(n, -1).mel.shape[0] for n in range(4)]
        assert max(frames) - min(frames) <= 1 and abs(frames[0] - 50) <= 1, "half a second at 100 Hz, whatever the rate"


@pytest.mark.parametrize("stage", ["audio", "vision"])
def test_a_corrupt_file_is_named_skipped_below_one_percent_and_an_error_above(tmp_path, root, stage, caplog):
    kind, name, write, rows = STAGES[stage]
    broken = root / (clip(3) if stage == "audio" else "images/3.jpg")
    broken.write_bytes(broken.read_bytes()[:30])
    write(tmp_path / name, rows[:3] * 40 + rows[3:4])
    place = f"{tmp_path / name}:{122 if stage == 'audio' else 121}"
    assert len(datamodule(stage, kind, tmp_path / name, root, tmp_path).samples("train")) == 120
    assert f"skipped 1 of 121 samples; the first: {place}: cannot read {broken}" in caplog.text
    write(tmp_path / name, rows)
    with pytest.raises(ValueError, match=rf"{name}: 1 of 20 samples cannot be used .*: cannot read {broken}"):
        datamodule(stage, kind, tmp_path / name, root, tmp_path).samples("train")
