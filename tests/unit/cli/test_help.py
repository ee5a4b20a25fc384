"""Help without waiting, and Ctrl-C before a program has begun."""

import os
import re
import select
import signal
import subprocess
import sys

import pytest

from muomni.cli import help
from tests.conftest import ROOT, run_script


@pytest.mark.parametrize("program", ["infer", "train"])
def test_help_names_every_option_and_torch_is_not_waited_for(program, tmp_path):
    """A torch that cannot be imported stands first on the path."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for flag in help.HELP:
        done = run_script(f"{program}.py", "stage=vision", flag, PYTHONPATH=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == help.usage(program)
    assert done.stdout.startswith(f"usage: python {program}.py ")
    assert "hydra" not in done.stdout.lower()
    assert max(map(len, done.stdout.splitlines())) <= 140


def test_help_lists_what_there_is():
    train, infer = help.usage("train"), help.usage("infer")
    for group in ("stage", "size", "budget", "data", "experiment", "ablation", "trainer", "logger", "optim"):
        assert help.choices(group)
        for name in help.choices(group):
            assert re.search(rf"\b{name}\b", train), name
    for name in re.findall(r"^(\w+):", (help.CONF / "infer.yaml").read_text(), flags=re.MULTILINE):
        assert name in ("defaults", "hydra", "paths") or f"\n  {name}=" in infer, name
    for path in (help.CONF / "generation").glob("*.yaml"):
        assert path.stem in infer
    assert "  video_frames=4 " in infer and "  text=  " in infer and "  system_prompt=  " in infer


@pytest.mark.parametrize("program", ["infer.py", "train.py"])
def test_ctrl_c_while_torch_is_imported_is_one_quiet_line(program, tmp_path):
    """In place of torch stands a module that says when its import begins, and swallows what an exception would say."""
    (tmp_path / "torch.py").write_text(
        "import time\nprint('importing', flush=True)\ntry:\n    time.sleep(60)\nexcept BaseException:\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(ROOT / program), "stage=thinker"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job behind & has it ignored, and hands that on
    )  # fmt: skip
    assert process.stdout is not None and select.select([process.stdout], [], [], 60)[0]
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_behind_the_imports_ctrl_c_is_an_exception_again(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["infer.py"])
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        help.begin("infer")
        assert signal.getsignal(signal.SIGINT) is help.leave
        help.ready()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job behind &
        help.begin("infer")
        help.ready()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
