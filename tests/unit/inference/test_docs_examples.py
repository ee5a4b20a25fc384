"""Every Python example of the documents runs: on a tiny model, and on the exports of `make demo` where they are there."""

import re
import shutil
from pathlib import Path

import pytest

from muomni import load_model
from muomni.inference import load
from muomni.inference.asr.ngram import train_ngram
from muomni.inference.decoding.runtime import Eager

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{place}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    # clients of a server: tests/integration/serving; onnxruntime alone: tests/unit/interop/onnx; in order: test_tutorial
    if page.name not in ("serving.md", "pretrained.md", "tutorial.md")
    for place, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL))
]


@pytest.fixture
def desk(tmp_path, monkeypatch, picture, sound):
    """A folder with what the examples name; what they would compile is not compiled."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(picture, "a.png")
    shutil.copy(sound, "a.wav")
    train_ngram(["hello there", "what colour is it"], order=3, unit="character").save("lm.arpa")
    monkeypatch.setattr(load, "make_runtime", lambda thinker, **_: Eager(thinker))
    return tmp_path


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(desk, export, code):
    for name in ("omni_sft", "audio", "talker"):
        shutil.copytree(export, desk / "checkpoints" / name)
        description = desk / "checkpoints" / name / "model.yaml"  # as much context as a real one has
        description.write_text(description.read_text().replace("max_length: 128", "max_length: 512"))
    exec(compile(code, "example", "exec"), {"load_model": load_model, "play": lambda chunk, rate: None})


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "checkpoints" / "omni_sft").is_dir(), reason="make demo has not been run here")
@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs_on_the_exports_of_the_demo(desk, code):
    (desk / "checkpoints").symlink_to(ROOT / "checkpoints")
    exec(compile(code, "example", "exec"), {"load_model": load_model, "play": lambda chunk, rate: None})
