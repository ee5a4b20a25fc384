"""Run folders as a training leaves them, with made-up numbers."""

import json

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image


def make_run(
    runs,
    stage,
    name,
    metrics,
    *,
    budget="demo",
    data="world",
    task="fit",
    samples=(),
    journal=True,
    age=0,
    export=None,
    tag="",
    seed=0,
    options=None,
):
    import os

    folder = runs / stage / name
    (folder / ".hydra").mkdir(parents=True)
    config = {
        "task": task, "size": "nano", "seed": seed, "budget": {"name": budget},
        "data": {"kind": data, "preset": "small", "seed": 7}, "tag": tag,
    } | (options or {})  # fmt: skip
    if export:
        config["paths"] = {"exports": {stage: export}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    named = {f"{stage}/{key}": value for key, value in metrics.items()}
    (folder / "metrics.json").write_text(json.dumps(named))
    os.utime(folder / "metrics.json", (1e9 - age, 1e9 - age))
    lines = [f"epoch,step,{stage}/train/loss,{stage}/val/loss,{stage}/val/ctc"]
    for step in range(0, 400, 20):
        lines.append(f"0,{step},{3 * np.exp(-step / 100) + 0.1:.4f},,")
        if step % 100 == 80:
            lines.append(f"0,{step},,{3 * np.exp(-step / 100) + 0.2:.4f},{step}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if samples:
        (folder / "samples").mkdir()
        (folder / "samples" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
        for row in samples:
            if "image" in row:
                Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "samples" / row["image"])
            if "audio" in row:
                soundfile.write(folder / "samples" / row["audio"], np.zeros(800), 16000)
    if journal:
        machine = {
            "processor": "Some CPU", "cores": 2, "threads": 2, "memory_gib": 8, "gpu": "none", "python": "3.11",
            "torch": "2.11",
        }  # fmt: skip
        document = {
            "stage": stage, "started": "2026-01-02T03:04:05", "seconds": {"fit": 100.0, "test": 20.0}, "steps": 400,
            "parameters": 1234567, "parameters_trained": 1000, "precision": "32-true", "machine": machine,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Finished runs of three stages."""
    runs = tmp_path / "runs"
    qa = {"qa/fact": 95.0, "qa/arithmetic": 70.0}
    make_run(runs, "thinker", "1", {"test/loss": 1.25, "test/floor": 1.2, "test/loss_minus_floor": 0.05} | qa)
    sounds = [
        {"split": "test", "id": f"s{i}", "kind": kind, "answer": f"heard | {kind}", "truth": f"said {i}", "cer": 12.5,
         "wer": 50.0, "audio": f"{i}-{kind}.wav"}
        for i in range(2) for kind in ("recorded", "codec", "spoken")
    ]  # fmt: skip
    spoken = {"test/cer": 13.0, "test/cer_shuffled": 88.0, "test/runaway": 1.0, "test/truncated": 1.5}
    make_run(runs, "talker", "1", spoken, samples=sounds)
    asked = [
        {"split": "test_iid", "id": "a", "question": "what colour?", "answer": "red", "truth": "red", "image": "0.png"},
        {"split": "test_comp", "id": "b", "question": "where?", "answer": "left", "truth": "top", "image": "1.png"},
        {"split": "test_iid", "id": "c", "question": "say", "answer": "x", "truth": "x", "audio": "2.wav"},
    ]
    compared = {"test_iid/image_count": 96.0, "test_iid/image_count_blind": 40.0, "test_iid/image_count_majority": 33.3}
    make_run(runs, "omni_sft", "1", compared, samples=asked)
    return runs
