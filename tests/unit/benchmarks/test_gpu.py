"""The script for a GPU, every function of it on the CPU with tiny sizes, so that no minute of a GPU is lost to a typo."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_checks import decoding, runs, training
from benchmarks.gpu_checks.measuring import FULL, TINY, memory_rate, row
from benchmarks.stages import compose_config
from muomni.run.hardware import best_precision
from tests.device.loop import Batches
from tests.device.stages import build, folder  # noqa: F401
from tests.unit.inference.conftest import export, parts, tokenizer_path  # noqa: F401
from train import settle

CPU = torch.device("cpu")
#: Writes a checkpoint and waits to be killed; started again, it finds the checkpoint and ends.
PROGRAM = """
import pathlib, sys, time
root = pathlib.Path(sys.argv[-1].partition("=")[2])
file = root / "runs/thinker/1/checkpoints/last.ckpt"
if not file.exists():
    file.parent.mkdir(parents=True)
    file.touch()
    time.sleep(60)
sys.exit(CODE)
"""


def test_without_a_gpu_it_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^error: no CUDA GPU on this machine.*pytest tests/device$"):
        gpu.main([])


def test_the_checks_are_those_that_it_names(tmp_path):
    checks = gpu.checks_of([f"paths.root={tmp_path}", "budget=ci"], tmp_path, CPU)
    assert f"of: {', '.join(checks)}\n" in gpu.__doc__
    assert (FULL.length, FULL.batches) == (2048, (1, 64))
    thinker = compose_config(f"size={FULL.thinker}").backbone.thinker
    assert (thinker.dim, thinker.num_layers) == (768, 12)
    for words in (runs.TWO_RANKS, runs.KILLED):
        assert compose_config(*words).stage.name == "thinker"


def test_a_check_that_fails_and_one_that_is_late_are_rows(tmp_path, capsys):
    rows = gpu.run_checks({"good": lambda: [row("good", "x", 1.5, "ms", aim=2)], "bad": lambda: 1 / 0}, seconds=60)
    rows += gpu.run_checks({"late": list}, seconds=-1)
    assert [each["ok"] for each in rows] == [True, False, False]
    with pytest.raises(SystemExit) as ended:
        gpu.report(rows, str(tmp_path / "gpu.json"))
    assert ended.value.code == 1
    gpu.report(rows[:1], "")
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"] == rows
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert row("x", "y", 3.0, "%", aim=4)["ok"] is False
    assert row("x", "y", 5.0, "ms", aim=4)["ok"] is False


@pytest.mark.filterwarnings("ignore")
def test_a_stage_trains_by_the_trainer_of_train_py(folder, tmp_path):  # noqa: F811
    stage, _, make = build(folder, "thinker")
    words = [
        "stage=thinker",
        "budget=ci",
        f"paths.root={folder}",
        f"paths.output={tmp_path}",
        "trainer.accelerator=cpu",
    ]
    cfg = compose_config(*words, "trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.limit_val_batches=1")
    settle(cfg, words)
    milliseconds, losses = training.ten_steps(cfg, stage, Batches(make, pinned=False), tmp_path)
    assert len(milliseconds) == len(losses) == 2
    line = training.stage_row(f"thinker {best_precision('cpu')}", milliseconds, losses)
    assert line["ok"] and line["value"] > 0
    assert not training.stage_row("x", [1.0], [math.nan])["ok"]


def test_every_stage_is_built_with_both_precisions(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(training, "build_stage", lambda cfg: (built.append(cfg.trainer.precision), None))
    monkeypatch.setattr(training, "STAGES", ("thinker", "omni_sft"))
    monkeypatch.setattr(training, "ten_steps", lambda *_: ([2.0, 1.0], [0.5, 0.4]))
    rows = training.stages([f"paths.root={tmp_path}", "budget=ci"], tmp_path, shapes=TINY, device=CPU)
    assert built == ["bf16-mixed", "16-mixed"] * 2
    assert [each["case"] for each in rows][-1] == "omni_sft 16-mixed"


def test_a_thinkers_step_is_timed_and_profiled(monkeypatch):
    monkeypatch.setattr(training, "peak_flops", lambda device, half: (1e12, "stated"))
    rows = training.mfu(shapes=TINY, device=CPU, compiled=False)
    assert [each["unit"] for each in rows] == ["tokens/s", "%"]
    assert all(each["value"] > 0 for each in rows)
    plain, packed = training.attention_kernels(shapes=TINY, device=CPU)
    assert (plain["case"][:5], packed["case"][:6]) == ("plain", "packed")
    names = ["aten::_flash_attention_forward", "void pytorch_flash::flash_fwd_kernel<Traits, true>(Params)", "gemm"]
    assert training.flash_names(names) == ["flash_fwd_kernel"]


def test_decoding_is_timed(tmp_path):
    rows = decoding.tokens_per_second(shapes=TINY, device=CPU, modes=("none",), folder=tmp_path, dtype="float32")
    assert len(rows) == 3 * len(TINY.batches)
    assert [each["value"] for each in rows if each["check"] == "tokens of eager decoding"] == [100.0, 100.0]
    assert all(each["value"] > 0 for each in rows)
    assert memory_rate(CPU, copied=TINY.copied) > 1e6


def test_the_first_sound_is_timed(export):  # noqa: F811
    (line,) = decoding.first_sound(export, device=CPU, rounds=1)
    assert (line["unit"], line["case"]) == ("ms", "omni_sft")
    assert line["value"] > 0


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_is_killed_and_started_again(tmp_path, code):
    program = (sys.executable, "-c", PROGRAM.replace("CODE", str(code)))
    (line,) = runs.resume_after_kill(tmp_path, [f"paths.root={tmp_path}"], program=program)
    assert line["ok"] is (code == 0)
    assert line["case"].startswith("killed: True, folders: 1")


def test_two_ranks_need_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert runs.two_ranks([])[0]["case"] == "one GPU: not run"
    (line,) = runs.two_ranks([], program=(sys.executable, "-c", "import sys; sys.exit('error: no such stage')"))
    assert (line["ok"], line["case"]) == (False, "stage=thinker trainer=ddp: error: no such stage")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
def test_a_recorded_step_gives_the_eager_tokens_on_a_gpu(tmp_path):
    rows = decoding.tokens_per_second(
        shapes=TINY, device=torch.device("cuda", 0), modes=("none", "default"), folder=tmp_path, dtype="float32"
    )
    assert all(each["value"] == 100.0 for each in rows if each["check"] == "tokens of eager decoding")


def test_the_file_of_results_is_in_the_folder_of_results():
    assert Path(gpu.OWN["out"]).parent == Path("benchmarks/results")
