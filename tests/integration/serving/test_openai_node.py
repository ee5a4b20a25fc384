"""OpenAI's Node client against a live server: every route, whole and streamed. Needs node, and MUOMNI_NODE_MODULES=FOLDER, a
node_modules with the package openai."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "openai_node.mjs"


def test_every_route(live, engine, picture, sound, tmp_path):
    modules = os.environ.get("MUOMNI_NODE_MODULES")
    if shutil.which("node") is None or not modules:
        pytest.skip("needs node, and MUOMNI_NODE_MODULES=FOLDER with: npm install openai")
    (tmp_path / "node_modules").symlink_to(Path(modules).resolve())
    shutil.copy(SCRIPT, tmp_path / "script.mjs")
    done = subprocess.run(
        ["node", "script.mjs", f"{live.url}/v1", str(picture), str(sound)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = engine.generate("what colour", max_new_tokens=8)
    assert found["chat"] == found["streamed"] == expected
    assert found["models"] == ["tiny"]
    assert found["transcript"] == engine.transcribe(sound)
    assert found["speech"] > 1000
    assert found["missing"] == [404, "model_not_found"]
    assert found["picture"]
    assert found["completion"] == found["completionStreamed"]
