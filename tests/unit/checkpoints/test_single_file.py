"""One file holds what a folder holds, and a training's checkpoint says what it is; damage is an error that names the file."""

import json
import resource

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from muomni.checkpoints.export import Export, save_export, weights_fingerprint
from muomni.checkpoints.single_file import check_single_place, describe_for_checkpoint, read_export, save_single
from tests.unit.checkpoints.test_export import thinker

METADATA = {"stage": "omni_sft", "tokenizer": "abc", "image": {"mean": [0.5, 0.5, 0.5]}, "note": "μ"}


class Training(nn.Module):
    """Two parts among its modules, one of them deep inside; the third lies outside."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"thinker": thinker()})
        self.own = thinker(1, tied=True)
        self.extra = nn.Linear(2, 2)  # of the training alone
        self.frozen = [thinker(2)]

    def parts(self):
        return {"thinker": self.model["thinker"], "own": self.own, "outside": self.frozen[0]}


def same_modules(first, second):
    return {n: weights_fingerprint(p) for n, p in first.items()} == {
        n: weights_fingerprint(p) for n, p in second.items()
    }


@pytest.fixture
def checkpoint(tmp_path):
    training = Training()
    content = {
        "state_dict": training.state_dict(),
        "export": describe_for_checkpoint(training, training.parts(), METADATA, b"\x00pieces\xff"),
        "optimizer_states": [{"lr": 0.1}],
    }
    torch.save(content, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_a_checkpoint_gives_all_parts_facts_and_tokenizer(checkpoint):
    export = read_export(checkpoint)
    assert same_modules(export.modules, Training().parts())
    assert export.modules["own"].head.weight is export.modules["own"].embedding.weight
    assert (export.metadata, export.tokenizer, export.folder) == (METADATA, b"\x00pieces\xff", checkpoint)
    assert not any(part.training for part in export.modules.values())


def test_one_file_gives_back_what_a_folder_held(tmp_path, checkpoint):
    (tmp_path / "vocabulary").write_bytes(b"\x00pieces\xff")
    folder = save_export(
        tmp_path / "folder", Training().parts(), metadata=METADATA, files={"tokenizer.model": tmp_path / "vocabulary"}
    )
    for source in (folder, folder / "model.safetensors", checkpoint):
        whole = read_export(source)
        path = save_single(tmp_path / "deep" / "model.safetensors", whole)
        again = read_export(path)
        assert same_modules(whole.modules, again.modules)
        assert (again.metadata, again.tokenizer) == (METADATA, b"\x00pieces\xff")
        assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]
    bare = save_single(tmp_path / "bare.safetensors", Export(Training().parts(), {}, tmp_path))
    assert read_export(bare).tokenizer is None


def test_wrong_names_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"export=out\.pt: .* ends with \.safetensors"):
        save_single("out.pt", Export({}, {}, tmp_path))
    broken = thinker()
    broken.head.weight.data[0, 0] = float("inf")
    with pytest.raises(ValueError, match="holds NaN=0, Inf=1"):
        save_single(tmp_path / "a.safetensors", Export({"thinker": broken}, {}, tmp_path))
    assert not list(tmp_path.iterdir())
    save_export(tmp_path / "mine", Training().parts(), metadata={}, files={})
    with pytest.raises(FileNotFoundError, match=r"none: no export here .* exports next to it: .*/mine$"):
        read_export(tmp_path / "none")


def test_only_an_export_of_ours_is_written_over_and_never_its_own_source(tmp_path):
    export = Export({"thinker": thinker()}, {}, tmp_path)
    path = save_single(tmp_path / "a.safetensors", export)
    assert save_single(path, export) == path
    again = read_export(path)
    (tmp_path / "link.safetensors").symlink_to(path)
    for name in ("a.safetensors", "link.safetensors"):
        with pytest.raises(ValueError, match=rf"{name} is what the export is made of: name another file"):
            save_single(tmp_path / name, again)
    folder = save_export(tmp_path / "folder", export.modules, metadata={}, files={})
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("notes")
    for other in (folder / "model.safetensors", tmp_path / "other.safetensors", tmp_path / "text.safetensors"):
        before = other.read_bytes()
        with pytest.raises(
            ValueError, match="is there already and is no export of this kind|is what the export is made of"
        ):
            save_single(other, read_export(folder))
        assert other.read_bytes() == before
    with pytest.raises(ValueError, match="is what the export is made of"):
        check_single_place(path, sources=[folder, path])


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(RuntimeError, match=r"^cannot write .*a\.safetensors: "):
            save_single(tmp_path / "a.safetensors", Export({"thinker": thinker()}, {}, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def header_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"muomni": "{"}, "its header is damaged"),
        ({"tokenizer": "***"}, "its header is damaged"),
        ({"muomni": "[1]"}, "not an export of format 1"),
        ({"muomni": json.dumps({"format": 1, "facts": {}, "parts": {}})}, "unexpected key"),
        ({"muomni": json.dumps({"format": 1, "facts": {}, "parts": {"thinker": "os.system"}})}, "unknown architecture"),
        ({"muomni": None}, "python -m muomni.interop.micro_omni import"),
    ],
)
def test_damaged_headers(tmp_path, change, message):
    path = save_single(tmp_path / "a.safetensors", Export({"thinker": thinker()}, {}, tmp_path, b"x"))
    header = header_of(path) | change
    save_file(load_file(path), path, metadata={key: value for key, value in header.items() if value is not None})
    with pytest.raises(ValueError, match=message) as error:
        read_export(path)
    assert "a.safetensors" in str(error.value)


@pytest.mark.parametrize("size", [0, 7, 100, 5000])
@pytest.mark.parametrize("kind", ["safetensors", "ckpt"])
def test_truncated_files(tmp_path, checkpoint, kind, size):
    path = checkpoint if kind == "ckpt" else save_single(tmp_path / "a.safetensors", read_export(checkpoint))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="cannot be read") as error:
        read_export(path)
    assert len(str(error.value).splitlines()) == 1
    assert path.name in str(error.value)


class Planted:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys):
    torch.save({"state_dict": Planted()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt: cannot be read"):
        read_export(tmp_path / "evil.ckpt")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1], {"thinker": {}, "proj_a": {}}])
def test_checkpoints_that_do_not_say_what_they_hold(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt: not a checkpoint of muomni that says what it holds"):
        read_export(tmp_path / "other.ckpt")


def test_a_checkpoint_that_lacks_tensors_names_the_part(checkpoint):
    content = torch.load(checkpoint)
    del content["state_dict"]["own.head.weight"]
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=r"last\.ckpt, module 'own': missing keys \['head.weight'\]"):
        read_export(checkpoint)
