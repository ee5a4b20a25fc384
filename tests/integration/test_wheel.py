"""The wheel: it holds what a checkout holds, and its commands work in a folder that holds nothing."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import muomni
from tests.conftest import FIXED, ROOT

OURS = ("muomni", "datamodules", "callbacks", "conf", "train.py", "infer.py", "serve.py")


def tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files: what else is in the checkout is none of it. Nothing is downloaded."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        if not name.startswith(("tests/", "docs/", "benchmarks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
               "--wheel-dir", str(out), str(source)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_ours_and_no_other(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {name for name in tracked() if name.split("/")[0] in OURS}
    assert wheel.name.startswith(f"muomni-{muomni.__version__}-")


def test_the_version_is_the_same_everywhere() -> None:
    newest = re.search(
        r"^## \[(\d[\d.]*)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE
    )
    citation = (ROOT / "CITATION.cff").read_text()
    assert newest and newest[1] == muomni.__version__
    assert f"\nversion: {newest[1]}\n" in citation and f"\ndate-released: {newest[2]}\n" in citation


@pytest.mark.slow
def test_an_installed_package_trains_and_answers_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Other packages are those of this environment; ours come from the wheel, whatever the folder has of the same names."""
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    (here / "train.py").write_text("raise SystemExit('this is not muomni')")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    environment = {**os.environ, **FIXED, "PYTHONPATH": os.pathsep.join([str(site), str(here)])}

    def command(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(site / "bin" / program), *arguments],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert str(ROOT) not in done.stdout + done.stderr
        return done

    done = command("muomni-train", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: muomni-train stage=STAGE"), done.stderr
    done = command("muomni-infer")
    assert done.returncode == 1 and "none; muomni-train stage=omni_sft makes one" in done.stderr
    done = command("muomni-train", "stage=thinker", "budget=ci", "data.preset=ci")
    assert done.returncode == 0, done.stderr[-4000:]
    assert {path.name for path in here.iterdir()} == {"train.py", "data", "runs", "checkpoints"}
    (metrics,) = here.glob("runs/thinker/*/metrics.json")
    assert "thinker/qa/fact" in json.loads(metrics.read_text())
    done = command("muomni-infer", "ckpt=checkpoints/thinker", "text=where is ann?")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr[-4000:]
    done = command("muomni-train", "stage=talker", "prerequisites=error", "budget=ci", "data.preset=ci")
    assert done.returncode == 1 and "first: run muomni-train stage=audio" in done.stderr, done.stderr[-2000:]
