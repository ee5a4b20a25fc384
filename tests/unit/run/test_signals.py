"""Exit codes of signals, SLURM's queue, and children that do not outlive their parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from muomni.run import signals
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _handlers():
    """Whatever a test installs goes away with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_exit_codes(number, code, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    signals.listen()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(number)
    assert ended.value.code == code
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, "no business of ours outside SLURM"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A stub that notes what it is asked, and fails if told so."""
    stub = tmp_path / "scontrol"
    stub.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nif test -f {tmp_path}/no; then echo denied >&2; exit 1; fi\n'
    )
    stub.chmod(0o755)
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return tmp_path


def test_a_slurm_job_is_queued_again(scontrol, caplog):
    signals.listen()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGUSR1)
    assert ended.value.code == 138
    assert (scontrol / "asked").read_text() == "requeue 4711\n"
    assert "job 4711 is in the queue again" in caplog.text


def test_a_task_of_an_array_by_its_own_name_and_the_first_process_alone(scontrol, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    signals.requeue()
    monkeypatch.setenv("SLURM_PROCID", "1")
    signals.requeue()
    assert (scontrol / "asked").read_text() == "requeue 4700_11\n"


def test_a_refusal_is_said(scontrol, caplog):
    (scontrol / "no").touch()
    signals.requeue()
    assert "scontrol requeue 4711 failed: denied; start the same command again yourself" in caplog.text


CHILD = """
import sys, time
from muomni.run import signals
signals.listen()
try:
    print("listening", flush=True)
    time.sleep(60)
except SystemExit as ended:
    open(sys.argv[1], "w").write(str(ended.code))
"""
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE,
                         env={**os.environ, "MUOMNI_PARENT": str(os.getpid())})
child.stdout.readline()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a child of its parent's death")
def test_a_stage_that_is_trained_first_ends_with_a_killed_parent(tmp_path):
    note = tmp_path / "code"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(note)], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout.readline() == b"ready\n"
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    while not note.exists() or not note.read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert note.read_text() == "143", "it had time to save"
