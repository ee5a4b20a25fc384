"""Fixtures shared by all tests."""

import fcntl
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.fork_server import ForkServer

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # the tensors of tests are tiny: more threads only wait for each other

#: The stages of the omni model, each after those it needs, and what makes them quick.
LINE = ("thinker", "vision", "audio", "codec", "talker", "omni_sft")
BUDGET = ("budget=ci", "data.preset=ci", "backbone.talker.max_frames=25")
#: What has learned nothing stops at its limit alone: 25 frames of speech, and so many tokens of an answer.
SHORT = {"omni_sft": ("module.evaluator.max_new_tokens=16",)}
#: Runs the scripts, once a test has asked for one.
_server: list[ForkServer] = []
#: As a fork finds them already used, a script that is given others is a process of its own.
FIXED = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


#: Files that take the longest begin the session, the longest first, so that no process is left alone with one at its end. Of
#: those that need `line` only one is among the first two: the other process would wait for it.
LONG = (
    "integration/test_resume", "unit/interop/onnx/test_onnxruntime", "integration/test_multirun", "integration/test_other_ranks",
    "contract/test_conf", "integration/test_line", "unit/inference/test_bad_input", "integration/test_debug",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist would begin with the files of the most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, then those of the most tests."""
    names = [item.path.relative_to(ROOT / "tests").with_suffix("").as_posix() for item in items]
    count = Counter(names)
    first = {name: number for number, name in enumerate(LONG)}
    rank = {name: (first.get(name, len(LONG)), -count[name], name) for name in count}
    items[:] = [item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: rank[pair[0]])]


def run_script(
    script: str, *arguments: str, timeout: float = 600, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout, or one by its absolute path, in `folder` as a user would; one thread, CPU. PYTHONPATH=...: by
    a new interpreter, not a fork."""
    command, variables = [str(ROOT / script), *arguments], {**os.environ, **FIXED, **environment}
    if not _server or environment.keys() & {"PYTHONPATH", *FIXED}:
        return subprocess.run(
            [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False, env=variables
        )  # fmt: skip
    return _server[0].run(command, folder=folder, environment=variables, timeout=timeout)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all workers of these tests together."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _scripts_are_forks(session_folder: Path) -> Iterator[None]:
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    environment = {**os.environ, **FIXED}
    _server.append(
        ForkServer(session_folder, owner=owner, modules=("train", "infer"), root=ROOT, environment=environment)
    )
    yield
    _server.clear()


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on how the user has set these."""
    monkeypatch.delenv("MUOMNI_TRACEBACK", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    """What Hydra makes of the root logger writes to a stream that is closed with the test; threads of later tests log to it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def line(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in which the whole line of stages was trained for two steps each on the ci world.

    It is made once; each process of the tests has a copy.
    """
    made = session_folder / "line-of-all"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "checkpoints" / LINE[-1]).exists():
            for stage in LINE:
                words = (*BUDGET, *SHORT.get(stage, ()), "prerequisites=error", f"paths.root={made}")
                done = run_script("train.py", f"stage={stage}", *words)
                assert done.returncode == 0, done.stderr[-4000:]
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("line") / "root", symlinks=True))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real recordings, images and texts: text/oz.txt, an4/manifest.jsonl and coco_mini/manifest.jsonl are read."""
    folder = os.environ.get("MUOMNI_TEST_DATA")
    if not folder:
        pytest.skip("set MUOMNI_TEST_DATA to a folder of real data (text/, an4/, coco_mini/)")
    assert Path(folder).is_dir(), f"MUOMNI_TEST_DATA={folder}: there is no such folder"
    return Path(folder).resolve()
