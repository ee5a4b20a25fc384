"""The examples of docs/serving.md, run as they stand but for the server's address and the model's name."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
BLOCKS = re.findall(r"^```(bash|python|javascript)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, picture):
    shutil.copy(picture, tmp_path / "picture.png")
    return tmp_path


def run(command, folder, **environment):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_examples_in_each_language():
    assert {language for language, _ in BLOCKS} == {"bash", "python", "javascript"}


@pytest.mark.parametrize(
    ("language", "code"), BLOCKS, ids=[f"{language}-{i}" for i, (language, _) in enumerate(BLOCKS)]
)
def test_an_example_runs(live, folder, language, code):
    code = code.replace("http://localhost:8000", live.url).replace("omni_sft", "tiny")
    if language == "bash":
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        written = run(["bash", "-ec", code.replace("curl ", "curl --fail -sS ")], folder)
        assert '"choices"' in written
        assert (folder / "said.wav").stat().st_size > 1000
    elif language == "python":
        for module in set(re.findall(r"^from (\w+) import", code, flags=re.MULTILINE)):
            if find_spec(module) is None:
                pytest.skip(f"needs {module}: pip install {module.replace('_', '-')}")
        run([sys.executable, "-c", code], folder)
    else:
        modules = os.environ.get("MUOMNI_NODE_MODULES")
        if shutil.which("node") is None or not modules:
            pytest.skip("needs node, and MUOMNI_NODE_MODULES=FOLDER with: npm install openai")
        (folder / "node_modules").symlink_to(Path(modules).resolve())
        (folder / "example.mjs").write_text(code)
        run(["node", "example.mjs"], folder)
