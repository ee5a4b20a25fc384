"""Samples of the held-out splits: files that can be looked at, and calls that the loggers understand."""

import json

import numpy as np
import pytest
import soundfile
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.samples import Samples, write_samples


@pytest.fixture
def samples(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("L", (6, 4), 200).save(tmp_path / "in" / "grey.png")
    soundfile.write(tmp_path / "in" / "a.flac", 0.5 * np.sin(np.arange(8000) / 10), 8000)
    wave = 0.5 * torch.sin(torch.arange(16000) / 20)
    image = torch.zeros(3, 4, 6)
    image[0] = 1.0
    return [
        {"split": "test/iid", "id": "p1", "question": "what colour?", "answer": "red", "truth": "red", "image": image},
        {"split": "test", "id": "p2", "truth": "grey", "image": str(tmp_path / "in" / "grey.png")},
        {"split": "test", "id": "s1", "kind": "recorded", "text": "hi", "audio": str(tmp_path / "in" / "a.flac")},
        {
            "split": "test",
            "id": "s1",
            "kind": "spoken",
            "waveform": wave,
            "sample_rate": 16000,
            "cer": torch.tensor(0.5),
        },
        {"split": "test", "id": "t", "question": "2 + 2", "answer": "5", "truth": "4", "image": None},
    ]


def test_files_can_be_looked_at_and_listened_to(samples, tmp_path):
    folder = tmp_path / "samples"
    rows = write_samples(folder, samples)
    assert [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()] == rows
    with Image.open(folder / rows[0]["image"]) as red:
        assert red.size == (6, 4)
        assert red.getpixel((5, 3)) == (255, 0, 0)
    with Image.open(folder / rows[1]["image"]) as grey:
        assert (grey.mode, grey.getpixel((0, 0))) == ("RGB", (200, 200, 200))
    recorded, rate = soundfile.read(folder / rows[2]["audio"])
    assert (len(recorded), rate) == (16000, 16000)
    spoken, _ = soundfile.read(folder / rows[3]["audio"])
    np.testing.assert_allclose(spoken, samples[3]["waveform"].numpy(), atol=1e-3)
    assert rows[3]["cer"] == 0.5
    assert rows[2]["kind"] in rows[2]["audio"]
    assert "image" not in rows[4]
    assert "audio" not in rows[4]


def test_a_second_test_replaces_the_first(samples, tmp_path):
    folder = tmp_path / "samples"
    write_samples(folder, samples)
    write_samples(folder, samples[:1])
    assert len(list(folder.iterdir())) == 2


def test_the_callback_writes_after_a_test_up_to_its_limit(samples, tmp_path, toy):
    stage, data, trainer = toy(Samples(limit=3))
    stage.evaluator.given = samples
    trainer.test(stage, datamodule=data, verbose=False)
    assert len((tmp_path / "samples" / "samples.jsonl").read_text().splitlines()) == 3


def test_no_samples_no_folder(tmp_path, toy):
    stage, data, trainer = toy(Samples(limit=3))
    trainer.test(stage, datamodule=data, verbose=False)
    assert not (tmp_path / "samples").exists()


def test_tensorboard_gets_texts_pictures_and_sounds(samples, tmp_path, toy):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    stage, data, trainer = toy(Samples(limit=9), logger=TensorBoardLogger(str(tmp_path / "board"), name="", version=""))
    stage.evaluator.given = samples
    trainer.test(stage, datamodule=data, verbose=False)
    events = event_accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    tags = events.Tags()
    assert tags["images"] == ["toy/samples/0", "toy/samples/1"]
    assert tags["audio"] == ["toy/samples/2", "toy/samples/3"]
    assert len([tag for tag in tags["tensors"] if tag.startswith("toy/samples/")]) == 5


def test_wandb_gets_a_table_pictures_and_sounds(samples, tmp_path, toy, monkeypatch):
    """Offline: what it would send lies in its folder."""
    wandb = pytest.importorskip("wandb")
    stage, data, trainer = toy(
        Samples(limit=9), logger=WandbLogger(project="muomni", save_dir=str(tmp_path), mode="offline")
    )
    stage.evaluator.given = samples
    trainer.test(stage, datamodule=data, verbose=False)
    wandb.finish()
    media = sorted(
        path.suffix for path in (tmp_path / "wandb").glob("offline-run-*/files/media/**/*") if path.is_file()
    )
    assert media == [".json", ".png", ".png", ".wav", ".wav"]
