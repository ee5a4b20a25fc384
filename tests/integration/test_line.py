"""From an empty folder to a model: each stage hands over to the next and to infer.py."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.load import load_model
from tests.conftest import BUDGET, LINE, SHORT, run_script


@pytest.mark.slow
def test_one_command_trains_every_stage(tmp_path: Path) -> None:
    done = run_script("train.py", "stage=omni_sft", *BUDGET, f"paths.root={tmp_path}")
    assert done.returncode == 0, done.stderr[-4000:]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == set(LINE)


@pytest.mark.slow
def test_one_command_trains_what_is_missing(line: Path, tmp_path: Path) -> None:
    """The vision export alone is missing, and is trained along."""
    root = tmp_path / "root"
    shutil.copytree(line, root, symlinks=True)
    for stage in ("vision", "omni_sft"):
        shutil.rmtree(root / "checkpoints" / stage)
    done = run_script("train.py", "stage=omni_sft", *BUDGET, f"paths.root={root}")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "training stage=vision first" in done.stderr
    assert {path.name for path in (root / "checkpoints").iterdir()} == set(LINE)


@pytest.mark.parametrize("stage", LINE)
def test_every_stage_leaves_an_export_and_a_run_folder(line: Path, stage: str) -> None:
    export = line / "checkpoints" / stage
    assert {"model.yaml", "model.safetensors"} <= {path.name for path in export.iterdir()}
    (run,) = (line / "runs" / stage).iterdir()
    assert (run / ".hydra" / "config.yaml").is_file()
    assert (run / "metrics.csv").read_text().count("\n") >= 1
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics
    assert all(name.startswith(f"{stage}/") and name.count("/") == 2 for name in metrics)
    assert all(isinstance(value, float | int) for value in metrics.values())


def test_a_second_call_trains_nothing_again(line: Path) -> None:
    before = {path: path.stat().st_mtime for path in line.glob("checkpoints/*/model.safetensors")}
    words = (*BUDGET, *SHORT["omni_sft"], f"paths.root={line}", "when_done=skip")
    done = run_script("train.py", "stage=omni_sft", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nothing to do" in done.stderr
    assert before == {path: path.stat().st_mtime for path in line.glob("checkpoints/*/model.safetensors")}


@pytest.mark.parametrize("override", ["prerequisites=error", "task=test"])
def test_what_is_missing_and_not_trained_along_is_named_by_its_command(override: str, tmp_path: Path) -> None:
    done = run_script("train.py", "stage=codec", override, "budget=ci", f"paths.root={tmp_path}")
    assert done.returncode == 1
    assert "train.py stage=audio" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_export_of_another_size_is_refused(line: Path) -> None:
    done = run_script("train.py", "stage=codec", "size=tiny", "budget=ci", "data.preset=ci", f"paths.root={line}")
    assert done.returncode == 1
    assert "size=nano" in done.stderr


@pytest.mark.parametrize(
    ("override", "named"),
    [("stage=foo", "thinker"), ("size=huge", "nano"), ("optim.lrr=1", "lr"), ("task=fly", "validate")],
)
def test_a_wrong_name_is_refused_with_what_there_is(override: str, named: str) -> None:
    done = run_script("train.py", override)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_text_answer_goes_to_standard_output(line: Path) -> None:
    done = run_script("infer.py", f"ckpt={line}/checkpoints/omni_sft", "text=where does ann live?", "quiet=true")
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_runs_checkpoint_and_a_single_file_answer_as_the_export_does(line: Path, tmp_path: Path) -> None:
    """The last checkpoint of a run holds the exported weights, and all that inference needs."""
    (checkpoint,) = line.glob("runs/omni_sft/*/checkpoints/last.ckpt")
    single = tmp_path / "omni.safetensors"
    done = run_script("infer.py", f"ckpt={checkpoint}", f"export={single}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"written: {single} (thinker, vision, image_projector" in done.stderr
    answers = {}
    for source in (line / "checkpoints" / "omni_sft", checkpoint, single):
        model = load_model(source, device="cpu")
        answers[source] = (model.generate("where does ann live?"), model.generate("tell me", generation="chat", seed=3))
        assert set(model.modules) >= {"thinker", "vision", "audio", "talker", "codec"}
    assert len(set(answers.values())) == 1


def test_speech_is_the_same_after_omni_sft(line: Path) -> None:
    """Text alone conditions the Talker, so that no tuning of the Thinker costs any of its quality."""
    before, after = (load_model(line / "checkpoints" / stage, device="cpu") for stage in ("talker", "omni_sft"))
    for text in ("the red circle is above the blue square", "7 - 2 = 5"):
        assert torch.equal(before.generate_speech(text), after.generate_speech(text))


def test_speech_out_writes_a_wav(line: Path, tmp_path: Path) -> None:
    out = tmp_path / "said.wav"
    done = run_script("infer.py", f"ckpt={line}/checkpoints/omni_sft", "text=hello", f"audio_out={out}")
    assert done.returncode == 0, done.stderr[-2000:]
    info = soundfile.info(out)
    assert info.samplerate == 16000
    assert info.frames > 0


@pytest.mark.parametrize(
    ("stage", "data", "manifest", "metric"),
    [
        ("audio", "speech", "an4/manifest.jsonl", "cer"),
        ("vision", "image_text", "coco_mini/manifest.jsonl", "r1_image_to_text"),
        ("thinker", "text", "text/oz.txt", "loss"),
    ],
)
def test_evaluates_an_export_on_real_data(
    line: Path, real_data: Path, tmp_path: Path, stage: str, data: str, manifest: str, metric: str
) -> None:
    """With nothing but the export and the manifest: the tokenizer is the export's own."""
    source = real_data / manifest
    lines = source.read_text().splitlines()[:8]
    if source.suffix == ".jsonl":
        lines = [line.replace('"audio/', f'"{source.parent}/audio/') for line in lines]
        lines = [line.replace('"images/', f'"{source.parent}/images/') for line in lines]
    few = tmp_path / f"few{source.suffix}"
    few.write_text("\n".join(lines) + "\n")
    done = run_script(
        "train.py", f"stage={stage}", "task=test", f"ckpt={line}/checkpoints/{stage}", f"data={data}",
        f"data.test={few}", f"paths.root={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (metrics,) = tmp_path.glob(f"runs/{stage}/*/metrics.json")
    assert f"{stage}/test/{metric}" in json.loads(metrics.read_text())


def test_a_run_does_not_go_on_with_another_tokenizer(line: Path, tmp_path: Path) -> None:
    """And what is refused leaves no run folder."""
    other = tmp_path / "other.model"
    draw = random.Random(0)
    Tokenizer.train(["".join(draw.choices("abcdefghij", k=8)) for _ in range(5000)], 1200, other)
    (checkpoint,) = line.glob("runs/thinker/*/checkpoints/last.ckpt")
    done = run_script(
        "train.py", "stage=thinker", "budget=ci", "data.preset=ci", f"resume={checkpoint}", f"paths.root={line}",
        f"datamodule.tokenizer={other}", f"paths.runs={tmp_path}/runs", "logger=[tensorboard]",
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"step 2: tokenizer differs: .*; resume=never begins again", done.stderr), done.stderr
    assert list((tmp_path / "runs").rglob("*")) == []


def test_an_export_is_not_measured_with_another_tokenizer(line: Path, real_data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.model"
    text = (real_data / "text" / "oz.txt").read_text().splitlines()
    Tokenizer.train(text, 1200, other)  # as many pieces as the export has: others are refused before it is read
    done = run_script(
        "train.py", "stage=thinker", "task=test", f"ckpt={line}/checkpoints/thinker", "data=text",
        f"data.test={real_data}/text/oz.txt", f"datamodule.tokenizer={other}", f"paths.root={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "tokenizer differs" in done.stderr
