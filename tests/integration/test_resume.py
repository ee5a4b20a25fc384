"""A run that is killed and started again ends with the very weights of one that was not."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_script


def faults(out: Path, *options: str) -> dict:
    """What `benchmarks.faults.kills` counted."""
    done = run_script("benchmarks/faults/kills.py", *options, f"out={out}", timeout=3000)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(out.read_text())


def test_killed_and_started_again(line: Path, tmp_path: Path) -> None:
    counts = faults(tmp_path / "faults.json", "kills=2", "stages=thinker,talker", f"root={line}")
    assert (counts["kills"], counts["resumed"], counts["identical"], counts["lost_samples"]) == (2, 2, 2, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_stages_by_one_and_two_processes(line: Path, tmp_path: Path) -> None:
    counts = faults(tmp_path / "faults.json", "kills=28", "ranks=1,2", f"root={line}")
    assert (counts["kills"], counts["resumed"], counts["identical"], counts["lost_samples"]) == (28, 28, 28, 0)


@pytest.mark.slow
def test_a_fork_trains_as_a_process_that_is_started_does(line: Path, tmp_path: Path) -> None:
    counts = faults(tmp_path / "faults.json", "kills=1", "stages=thinker", "workers=0", f"root={line}")
    code = "import sys; from pathlib import Path; from benchmarks.faults.kills import command\n"
    code += "print(*command('thinker', Path(sys.argv[1]), Path(sys.argv[2]), workers=0, ranks=1), sep='\\n')"
    asked = [sys.executable, "-c", code, str(line), str(tmp_path)]
    arguments = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    done = run_script("train.py", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    weights = (tmp_path / "export" / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == counts["weights"]["thinker x 1"]
