"""Hugging Face folders: what is read, and what is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from muomni.interop.hf.folder import CONFIG, INDEX, WEIGHTS, read_folder

TENSORS = {"a.weight": torch.randn(3, 2), "b.weight": torch.randn(4).bfloat16()}


def write_config(folder, **config):
    (folder / CONFIG).write_text(json.dumps({"model_type": "llama"} | config))


def write_shards(folder, names):
    """names: tensor -> file, as the index says; each file holds the tensors of `TENSORS` that it names."""
    for file in set(names.values()):
        save_file({key: TENSORS[key] for key, name in names.items() if name == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))


SHARDS = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}


@pytest.fixture
def folder(tmp_path):
    write_config(tmp_path)
    save_file(TENSORS, tmp_path / WEIGHTS)
    return tmp_path


@pytest.fixture
def sharded(tmp_path):
    write_config(tmp_path)
    write_shards(tmp_path, SHARDS)
    return tmp_path


def refusal(folder, error=ValueError):
    with pytest.raises(error) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", ["folder", "sharded"])
def test_tensors_are_read_as_they_were_written(form, request):
    found = read_folder(request.getfixturevalue(form))
    assert found.config == {"model_type": "llama"}
    assert set(found.tensors) == set(TENSORS)
    assert found.tensors.shape("a.weight") == (3, 2) and found.tensors.dtype("b.weight") == torch.bfloat16
    for key, value in TENSORS.items():
        assert torch.equal(found.tensors[key], value)


def test_an_index_that_names_an_absent_file(sharded):
    (sharded / SHARDS["b.weight"]).unlink()
    assert SHARDS["b.weight"] in refusal(sharded, FileNotFoundError)


def test_an_index_that_names_another_tensor_than_the_file_has(sharded):
    (sharded / INDEX).write_text(json.dumps({"weight_map": SHARDS | {"c.weight": SHARDS["b.weight"]}}))
    assert "lacks c.weight" in refusal(sharded)
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a.weight": SHARDS["a.weight"]}}))
    write_shards(sharded, dict.fromkeys(TENSORS, SHARDS["a.weight"]))
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a.weight": SHARDS["a.weight"]}}))
    assert "holds b.weight" in refusal(sharded)


@pytest.mark.parametrize("file", ["../secret.safetensors", "/etc/passwd", "model.bin"])
def test_an_index_may_not_leave_its_folder(sharded, file):
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a.weight": file}}))
    assert "no .safetensors of this folder" in refusal(sharded)


def test_shards_without_their_index(sharded):
    (sharded / INDEX).unlink()
    assert f"{INDEX} is missing" in refusal(sharded, FileNotFoundError)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "\xff", "[" * 100_000])
def test_a_config_that_is_no_json_object(folder, text):
    (folder / CONFIG).write_text(text, encoding="latin-1")
    assert CONFIG in refusal(folder)


def test_a_pickle_is_not_read(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    assert "pickle" in refusal(folder)


def test_code_is_not_executed(folder):
    write_config(folder, auto_map={"AutoModel": "modeling_x.X"})
    (folder / "modeling_x.py").write_text("raise SystemExit('executed')")
    assert "auto_map" in refusal(folder)


def test_quantised_folders_are_refused(folder):
    write_config(folder, quantization_config={"bits": 4})
    assert "quantization_config" in refusal(folder)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_file(folder, length):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:length])
    assert "cut off" in refusal(folder)


def test_a_pointer_of_git_lfs(folder):
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refusal(folder)


def test_no_folder_and_no_name_of_the_hub(tmp_path, folder):
    assert "no such folder" in refusal(tmp_path / "absent", FileNotFoundError)
    assert "is a file" in refusal(folder / CONFIG)
    (folder / CONFIG).unlink()
    assert CONFIG in refusal(folder, FileNotFoundError)


def test_a_name_of_the_hub_without_a_network(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def no_network(name, **options):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(hub, "snapshot_download", no_network)
    assert "org/model" in refusal("org/model", FileNotFoundError)


def test_check_names_what_does_not_fit(folder):
    found = read_folder(folder)
    shapes = {"a.weight": (3, 2), "b.weight": (4,)}
    found.check(shapes)
    found.check({"a.weight": (3, 2)}, surplus=[r"b\..*"])
    for expected, message in (
        ({"a.weight": (3, 2)}, "unexpected tensor b.weight"),
        (shapes | {"c.weight": (1,)}, "c.weight is missing"),
        (shapes | {"a.weight": (2, 3)}, r"a.weight has shape \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            found.check(expected)


def test_numbers_of_another_format_are_refused(folder):
    save_file(TENSORS | {"a.weight": torch.ones(3, 2, dtype=torch.int8)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"a\.weight is of I8"):
        read_folder(folder).check({"a.weight": (3, 2), "b.weight": (4,)})
