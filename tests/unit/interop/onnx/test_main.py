"""The command: one line for a mistake, and nothing half-written."""

import json
import shutil
from importlib import util
from pathlib import Path

import pytest
import yaml

from muomni.interop.onnx import folder, graph
from muomni.interop.onnx.__main__ import main
from muomni.interop.onnx.readme import readme
from muomni.interop.onnx.sherpa import tokens_text

EXPORT = Path(__file__).parents[3] / "fixtures" / "export_0_1"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "usage:  python -m muomni.interop.onnx export checkpoints/NAME out=FOLDER"),
        ([str(EXPORT)], "usage: "),
        (["none", "out=x"], "none: no export here"),
        ([str(EXPORT), "out=x", "part=audio"], "unknown option 'part'; available: out, parts, opset, dtype"),
        ([str(EXPORT), "out=x", "parts=encoder"], "parts=encoder: unknown; available: thinker, vision"),
        ([str(EXPORT), "out=x", "parts=text_tower"], "the export has no module 'text_tower'; it can have thinker"),
        ([str(EXPORT), "out=x", "opset=11"], "opset=11: from 18 to 23"),
        ([str(EXPORT), "out=x", "dtype=fp8"], "dtype=fp8: f32, f16, int8"),
        ([str(EXPORT), "out=taken"], "out=taken exists already: name another folder"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(arguments, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        main(["export", *arguments])
    assert match in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert not any((tmp_path / "taken").iterdir())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxruntime" else util.find_spec(name))
    with pytest.raises(ValueError, match=r"ONNX needs onnxruntime: pip install 'muomni\[onnx\]'"):
        main(["export", str(EXPORT), f"out={tmp_path / 'x'}"])


def test_another_rate_than_sherpas_is_refused(tmp_path):
    other = tmp_path / "other"
    shutil.copytree(EXPORT, other)
    description = yaml.safe_load((other / "model.yaml").read_text())
    description["facts"]["mel"] |= {"sample_rate": 8000, "f_max": 4000.0}
    (other / "model.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(ValueError, match="sherpa-onnx takes waveforms at 16000 Hz, this encoder at 8000"):
        main(["export", str(other), f"out={tmp_path / 'x'}", "parts=recognizer"])


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def broken(graph, path, **options):
        path.write_bytes(b"half")
        raise ValueError("thinker: onnxruntime's numbers differ from torch's by 7")

    monkeypatch.setattr(folder, "write_graph", broken)
    with pytest.raises(ValueError, match="differ from torch's by 7"):
        main(["export", str(EXPORT), f"out={tmp_path / 'x'}"])
    assert not list(tmp_path.iterdir())


def test_help(capsys):
    assert main([]) == 2
    assert "out=FOLDER" in capsys.readouterr().err


def test_tokens_are_symbols_and_numbers():
    assert tokens_text(["", " ", "a", "\n", "\ufffd"]) == "<blk> 0\n\u2581 1\na 2\n\u2581 3\n\ufffd 4\n"


def test_the_readme_says_what_goes_in_and_out():
    port = {"name": "ids", "dtype": "int64", "shape": ["batch", "tokens"], "about": "new tokens"}
    graphs = {
        "thinker": {
            "about": "ids to logits",
            "inputs": [port],
            "outputs": [port],
            "prompt": "bos",
            "special_tokens": {},
        }
    }
    text = readme(json.loads(json.dumps({"made_by": "muomni", "opset": 18, "dtype": "f32", "graphs": graphs})))
    assert "| input | ids | (batch, tokens) int64 | new tokens |" in text
