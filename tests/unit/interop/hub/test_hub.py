"""Pushed and pulled again, a folder is the same byte for byte; pickles and code never travel; what goes wrong is one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from muomni.checkpoints.export import load_export, save_export
from muomni.interop.hub.__main__ import main
from muomni.interop.hub.files import is_data
from muomni.models.thinker import Thinker
from tests.unit.interop.hub.fake_hub import FakeHub

pytest.importorskip("huggingface_hub")
SHAPE = {"vocab_size": 16, "dim": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "ff_dim": 16, "max_length": 8}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = FakeHub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    files = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(
        "huggingface_hub.constants.ENDPOINT", hub.url
    )  # which were made of HF_ENDPOINT at the first import
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield hub
    hub.close()


@pytest.fixture
def export(tmp_path):
    return save_export(tmp_path / "ours", {"thinker": Thinker(**SHAPE)}, files={}, metadata={"stage": "thinker"})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "hf"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"a": torch.ones(2)}, path / "model.safetensors")
    return path


def test_an_export_comes_back(hub, export, tmp_path, capsys):
    (export / "compiled.py").write_text("1")
    (export / "old").mkdir()
    assert main(["push", str(export), "repo=someone/thinker", "private=true"]) == 0
    assert "2 files" in capsys.readouterr().err and hub.private == {"someone/thinker"}
    assert sorted(hub.repos["someone/thinker"]) == ["model.safetensors", "model.yaml"]
    assert main(["pull", "someone/thinker", f"out={tmp_path / 'theirs'}"]) == 0
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == ["model.safetensors", "model.yaml"]
    for name in ("model.safetensors", "model.yaml"):
        assert (tmp_path / "theirs" / name).read_bytes() == (export / name).read_bytes()
    load_export(tmp_path / "theirs")


def test_a_hugging_face_folder_comes_back_and_pickles_do_not(hub, folder, tmp_path, capsys):
    (folder / "pytorch_model.bin").write_bytes(b"x")
    main(["push", str(folder), "repo=someone/hf"])
    assert "1 pickle (pytorch_model.bin)" in capsys.readouterr().err
    hub.repos["someone/hf"] |= {"pytorch_model.bin": b"x", "modeling.py": b"x", "onnx/config.json": b"{}"}
    main(["pull", "someone/hf", f"out={tmp_path / 'back'}"])
    assert "1 pickle (pytorch_model.bin) and 1 file of code (modeling.py)" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["config.json", "model.safetensors"]
    assert not any("pytorch_model.bin" in path for path in hub.requests)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "1 pickle .* no .safetensors"),
        ({"README.md": b"x"}, "no .safetensors"),
        ({"model.safetensors": b"x", "config.json": b'{"auto_map": {"AutoModel": "modeling.X"}}'}, "auto_map"),
        ({"model.safetensors": b"x", "config.json": b"["}, "no JSON"),
    ],
)
def test_what_would_execute_code_is_not_pulled(hub, tmp_path, files, message):
    hub.repos["someone/bad"] = files
    with pytest.raises(ValueError, match=message) as caught:
        main(["pull", "someone/bad", f"out={tmp_path / 'bad'}"])
    assert "\n" not in str(caught.value) and not (tmp_path / "bad").exists()


def test_names_that_lead_elsewhere_are_no_data():
    wrong = ("../model.safetensors", "/etc/model.json", "a/model.safetensors", ".git", "x.py", "weights.bin")
    assert not any(map(is_data, wrong))
    assert all(map(is_data, ("model-00001-of-00002.safetensors", "LICENSE", "model.yaml", "merges.txt")))


def test_mistakes_are_one_line(hub, export, folder, tmp_path, monkeypatch):
    def said(*words):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            main(list(words))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "usage" in said("push", str(export)) and "usage" in said("pull", "a/b")
    assert "USER/NAME" in said("push", str(export), "repo=alone") and "USER/NAME" in said(
        "push", str(export), "repo=a/b/c"
    )
    assert "no such folder" in said("push", str(tmp_path / "none"), "repo=a/b")
    assert "neither an export" in said("push", str(tmp_path), "repo=a/b")
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}')
    assert "auto_map" in said("push", str(folder), "repo=a/b")
    assert "exists already" in said("pull", "a/b", f"out={export}")
    assert "no repository a/b" in said("pull", "a/b", f"out={tmp_path / 'new'}")
    hub.repos["a/b"] = {"model.safetensors": b"x"}
    assert "no such revision" in said("pull", "a/b", f"out={tmp_path / 'new'}", "revision=v2")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert "one that may write" in said("push", str(export), "repo=a/b")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no token" in said("push", str(export), "repo=a/b")
    hub.close()
    assert "cannot be reached" in said("pull", "a/b", f"out={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()
