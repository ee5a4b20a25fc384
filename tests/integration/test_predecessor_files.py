"""micro-omni's CSV of recordings by the command that a user types: trained on, measured, and a wrong one in one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import run_script


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """root/clips/*.wav at 8 kHz, and root/../asr.csv with a quoted text; twenty rows."""
    root = tmp_path / "root"
    (root / "clips").mkdir(parents=True)
    noise = np.random.default_rng(0)
    with (tmp_path / "asr.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wav", "text"])
        for number in range(20):
            soundfile.write(root / "clips" / f"{number}.wav", noise.normal(0, 0.1, 6000), 8000)
            writer.writerow([f"clips/{number}.wav", f"yes, {number}"])
    return root


def test_a_stage_trains_and_is_measured_on_a_csv(root: Path, tmp_path: Path) -> None:
    data = ("data=speech", f"data.root={root}", f"data.test={tmp_path}/asr.csv", f"paths.root={tmp_path}")
    done = run_script("train.py", "stage=audio", "budget=ci", *data, f"data.train={tmp_path}/asr.csv")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "checkpoints" / "audio" / "model.safetensors").is_file()
    again = run_script("train.py", "stage=audio", "task=test", *data)
    assert again.returncode == 0, again.stderr[-2000:]
    first, second = (json.loads(path.read_text()) for path in tmp_path.glob("runs/audio/*/metrics.json"))
    for metrics in (first, second):
        for name in [name for name in metrics if "/train/" in name]:
            del metrics[name]
    assert first == second
    assert "audio/test/cer" in first


def test_media_that_are_not_found_are_one_line_with_the_way_out(root: Path, tmp_path: Path) -> None:
    done = run_script(
        "train.py",
        "stage=audio",
        "budget=ci",
        "data=speech",
        f"data.train={tmp_path}/asr.csv",
        f"paths.root={tmp_path}",
    )
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()[-1]
    assert "20 of 20 samples cannot be used" in error
    assert f"{tmp_path}/asr.csv:2: missing file clips/0.wav" in error
    assert "data.root=DIR" in error
    assert "Traceback" not in done.stderr
