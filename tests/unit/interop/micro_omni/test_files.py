"""Reading their files: only tensors, of a known layout; anything else is one line that names the file."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from muomni.interop.micro_omni.files import read
from tests.unit.interop.micro_omni import conftest as theirs


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def refused(path, match):
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_parts_kept_and_left_out(tmp_path):
    content = {"vit": theirs.vision(1), "img_proj": theirs.linear(3, 4), **theirs.RESUMED, "scaler": {"scale": 2.0}}
    torch.save(content, tmp_path / "vision.pt")
    found = read(tmp_path / "vision.pt")
    assert found.modules.keys() == {"vision"}
    assert found.kept.keys() == {"img_proj.weight", "img_proj.bias"}
    assert found.left_out == [*theirs.RESUMED, "scaler"]


def test_a_pickle_that_wants_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"vit": theirs.vision(1), "step": Harmful()}, tmp_path / "zip.pt")
    refused(tmp_path / "zip.pt", r"zip\.pt: .*holds more than tensors \(it asks for \w+\.system\)")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Harmful()))
    refused(tmp_path / "plain.pt", "nothing in it is executed")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_that_was_cut_off(tmp_path, ending, share):
    path = tmp_path / f"vision{ending}"
    state = theirs.vision(1)
    torch.save({"vit": state}, path) if ending == ".pt" else save_file(theirs.prefixed("vision_encoder", state), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "cut off|not a checkpoint")


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_noise(tmp_path, ending):
    path = tmp_path / f"noise{ending}"
    path.write_bytes(bytes(range(256)) * 40)
    refused(path, "cut off|not a checkpoint")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "holds a list, not a dictionary of state dicts"),
        ({"step": 3}, "of unknown layout: it has none of the entries model, thinker, enc"),
        (
            {"generator": {"a": torch.zeros(1)}},
            "of unknown layout: 'generator' is not an entry of micro-omni's; known: model,",
        ),
        ({"conv.weight": torch.zeros(1)}, "of unknown layout: 'conv.weight' is not an entry"),
        ({"vit": torch.zeros(1)}, "'vit' is a tensor, not a state dict"),
        ({"vit": {"cls": 3}}, "vit.cls is a int, not a tensor"),
        ({"vit": {"cls": torch.zeros(1, dtype=torch.int64)}}, "vit.cls is of torch.int64, not of float32"),
        ({"vit": {"cls": torch.zeros(1), "_orig_mod.cls": torch.zeros(1)}}, "vit.cls is in it twice"),
        (
            {"enc": {"a": torch.zeros(1)}, "audio_encoder": {"a": torch.zeros(1)}},
            "audio is in it twice: audio_encoder.a",
        ),
    ],
)
def test_unknown_layouts(tmp_path, content, match):
    torch.save(content, tmp_path / "some.pt")
    refused(tmp_path / "some.pt", match)


def test_no_file_and_no_checkpoint(tmp_path):
    refused(tmp_path / "none.pt", "no such checkpoint")
    (tmp_path / "a.bin").write_bytes(b"")
    refused(tmp_path / "a.bin", "not a .pt or .safetensors file")


def test_a_flat_safetensors_is_a_thinkers(tmp_path):
    state = theirs.thinker(layers=1)
    save_file(state, tmp_path / "model.safetensors")
    assert read(tmp_path / "model.safetensors").modules["thinker"].keys() == state.keys()
