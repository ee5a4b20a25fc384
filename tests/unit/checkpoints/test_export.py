"""Exports: what comes back is what went in, and every damage is an error that names it."""

import errno
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from muomni.checkpoints.atomic_write import partial_name
from muomni.checkpoints.export import (
    check_place,
    check_same,
    is_export,
    list_exports,
    load_export,
    read_description,
    save_export,
    trained_characters,
    weights_fingerprint,
)
from muomni.models.thinker import Thinker


def thinker(seed=0, **options):
    torch.manual_seed(seed)
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "ff_dim": 24, "max_length": 16}
    return Thinker(vocab_size=24, **(shape | options)).eval()


@pytest.fixture
def export(tmp_path):
    (tmp_path / "vocabulary").write_bytes(b"pieces")
    return save_export(
        tmp_path / "checkpoints" / "omni",
        {"thinker": thinker(), "second": thinker(1, qk_norm=True, tied=True)},
        metadata={"stage": "thinker", "mel": {"hop": 160}},
        files={"tokenizer.model": tmp_path / "vocabulary"},
    )


def rewrite(export, change):
    """Change the tensors of an export behind its back."""
    path = export / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_what_comes_back_is_what_went_in(export):
    loaded = load_export(export)
    ids = torch.arange(8)[None]
    for name, expected in (("thinker", thinker()), ("second", thinker(1, qk_norm=True, tied=True))):
        part = loaded.modules[name]
        assert not part.training
        assert part.options == expected.options
        assert torch.equal(part(ids).logits, expected(ids).logits)
    assert loaded.metadata == {"stage": "thinker", "mel": {"hop": 160}}
    assert loaded.tokenizer_path.read_bytes() == b"pieces"


def test_some_of_the_parts(export):
    assert list(load_export(export, ["second"]).modules) == ["second"]
    with pytest.raises(ValueError, match=r"omni: this export has no module 'talker'; it holds thinker, second"):
        load_export(export, ["talker"])


def test_tied_weights_are_tied_again(export):
    part = load_export(export).modules["second"]
    assert part.head.weight is part.embedding.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("thinker.head.weight"), r"module 'thinker': missing keys \['head.weight'\]"),
        (lambda t: t.update({"thinker.extra": torch.zeros(1)}), r"module 'thinker'.*unexpected keys \['extra'\]"),
        (lambda t: t.update({"ghost.weight": torch.zeros(1)}), r"unexpected key 'ghost.weight'"),
        (
            lambda t: t.update({"thinker.head.weight": torch.zeros(24, 8)}),
            r"head.weight has shape \(24, 8\), expected \(24, 16\)",
        ),
    ],
)
def test_keys_and_shapes_are_strict(export, change, message):
    rewrite(export, change)
    with pytest.raises(ValueError, match=message) as error:
        load_export(export)
    assert "model.safetensors" in str(error.value)


@pytest.mark.parametrize("size", [0, 4, 100, 1000])
def test_a_truncated_file_is_damaged(export, size):
    path = export / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read"):
        load_export(export)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not readable as YAML"),
        ("[1]", "not an export of format 1"),
        ("{format: 2}", "not an export of format 1"),
        ("{format: 1}", "model.yaml: no 'facts'"),
        ("{format: 1, facts: {}, parts: [thinker]}", "model.yaml: no 'parts'"),
    ],
)
def test_a_broken_description_is_named(export, text, message):
    (export / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_export(export)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "os.system"}, "unknown architecture 'os.system'; known: "),
        ({"options": {"width": 3}}, "options do not fit thinker: .*vocab_size"),
    ],
)
def test_only_known_parts_are_built(export, change, message):
    document = yaml.safe_load((export / "model.yaml").read_text())
    document["parts"]["thinker"] |= change
    (export / "model.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match=message):
        load_export(export)


def test_a_missing_export(tmp_path):
    with pytest.raises(FileNotFoundError, match="no export here"):
        read_description(tmp_path)
    assert not is_export(tmp_path)
    assert list_exports(tmp_path / "none") == []


def test_nan_is_not_exported_and_the_old_export_stays(export):
    broken = thinker()
    broken.head.weight.data[3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"thinker\.head\.weight holds NaN=1, Inf=0; a broken model"):
        save_export(export, {"thinker": broken}, metadata={}, files={})
    assert list(load_export(export).modules) == ["thinker", "second"]


def test_a_failed_write_leaves_nothing_behind(export, tmp_path):
    with pytest.raises(FileNotFoundError):
        save_export(export, {"thinker": thinker()}, metadata={}, files={"tokenizer.model": tmp_path / "none"})
    assert [path.name for path in export.parent.iterdir()] == ["omni"]
    assert "second" in load_export(export).modules


def test_what_a_killed_export_left_goes_with_the_next_and_nothing_else(export):
    """`.emacs.d` beside an export named emacs, and a name that a pattern would take for another."""
    killed = partial_name(export)
    killed.mkdir()
    others = [
        export.parent / name
        for name in (f".{export.name}.d", f".{export.name}.old", f".{export.name}.k1ll3d", ".omn[i].d")
    ]
    for other in others:
        other.mkdir()
        (other / "precious").touch()
    save_export(export, {"thinker": thinker()}, metadata={}, files={})
    save_export(export.parent / "omn[i]", {"thinker": thinker()}, metadata={}, files={})
    assert not killed.exists()
    assert all((other / "precious").is_file() for other in others)


def test_an_export_that_is_a_link_is_written_where_it_leads(export, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    os.replace(export, disk / "omni")
    export.symlink_to("../disk/omni")
    (export.parent / "talker").symlink_to(disk / "talker")  # leads to what is not there yet
    for seed in (1, 2):
        for link in (export, export.parent / "talker"):
            save_export(link, {"thinker": thinker(seed)}, metadata={}, files={})
            assert link.is_symlink() and is_export(link)
            assert weights_fingerprint(load_export(link).modules["thinker"]) == weights_fingerprint(thinker(seed))
    assert sorted(path.name for path in disk.iterdir()) == ["omni", "talker"]
    (export.parent / "vision").symlink_to(tmp_path / "unmounted" / "vision")
    with pytest.raises(
        FileNotFoundError, match=r"vision is a symbolic link to .*unmounted/vision, whose folder is not there"
    ):
        save_export(export.parent / "vision", {"thinker": thinker()}, metadata={}, files={})


def test_an_export_that_is_a_mount_point_is_filled(export, monkeypatch):
    replace = os.replace

    def refuse(source, target):
        if Path(source) == export:
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    save_export(export, {"thinker": thinker(3)}, metadata={"stage": "new"}, files={})
    assert weights_fingerprint(load_export(export).modules["thinker"]) == weights_fingerprint(thinker(3))
    assert sorted(path.name for path in export.iterdir()) == ["model.safetensors", "model.yaml"]
    assert [path.name for path in export.parent.iterdir()] == ["omni"]


def test_what_someone_put_into_an_export_stays(export):
    (export / "README.md").write_text("my notes")
    (export / "compiled").mkdir()  # ours, of an earlier version
    save_export(export, {"thinker": thinker()}, metadata={}, files={})
    assert sorted(path.name for path in export.iterdir()) == ["README.md", "model.safetensors", "model.yaml"]
    assert (export / "README.md").read_text() == "my notes"


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    place = tmp_path / "thinker"
    place.mkdir()
    (place / ".DS_Store").touch()
    check_place(place)
    (place / "thesis.tex").touch()
    with pytest.raises(
        ValueError, match=r"thinker holds other things than an export \(thesis\.tex\), which stay untouched"
    ):
        save_export(place, {"thinker": thinker()}, metadata={}, files={})
    assert (place / "thesis.tex").is_file()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file where an export's folder would be"):
        check_place(tmp_path / "file")


def test_an_export_is_as_readable_as_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        folder = save_export(tmp_path / "omni", {"thinker": thinker()}, metadata={}, files={})
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())}
    assert modes == {"omni": "0o750", "model.yaml": "0o640", "model.safetensors": "0o640"}


def test_a_second_export_takes_the_place_of_the_first(export):
    save_export(export, {"thinker": thinker(2)}, metadata={"stage": "new"}, files={})
    loaded = load_export(export)
    assert list(loaded.modules) == ["thinker"]
    assert loaded.metadata == {"stage": "new"}
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer"):
        _ = loaded.tokenizer_path
    assert list_exports(export.parent) == [export]


def test_a_fingerprint_is_of_names_shapes_and_values():
    first = weights_fingerprint(thinker())
    assert first == weights_fingerprint(thinker())
    other = thinker()
    other.head.weight.data[0, 0] += 1e-6
    assert first != weights_fingerprint(other)
    assert first != weights_fingerprint(thinker().transformer)


@pytest.mark.parametrize("part", [3, {"part": "audio"}, {"options": [1]}, {"options": {"characters": 5}}])
def test_no_characters_are_told_by_a_damaged_description(export, part):
    """What is wrong with it, loading says."""
    document = yaml.safe_load((export / "model.yaml").read_text())
    (export / "model.yaml").write_text(yaml.safe_dump(document | {"parts": {"audio": part}}))
    assert trained_characters(export) is None


def test_facts_that_differ_are_named():
    metadata = {"tokenizer": "abc", "mel": {"hop": 160}}
    check_same(metadata, {"mel": {"hop": 160}}, where="x")
    with pytest.raises(ValueError, match=r"checkpoints/audio: mel differs: it was trained with \{'hop': 160\}"):
        check_same(metadata, {"mel": {"hop": 320}}, where="checkpoints/audio")
    with pytest.raises(ValueError, match="codec differs: it was trained with None"):
        check_same(metadata, {"codec": "f00"}, where="x")


def test_pictures_of_an_export_that_says_less_are_its_own_but_for_that(caplog):
    old = {"image": {"size": 32, "mean": [0.3], "fit": "crop"}}
    new = {"size": 32, "mean": [0.3], "fit": "letterbox", "matte": "white"}
    check_same(old, {"image": new}, where="checkpoints/vision")
    assert "checkpoints/vision: trained on the centre squares of pictures, on black" in caplog.text
    for other in (old, {"image": new | {"matte": "black"}}):
        with pytest.raises(ValueError, match="image differs"):
            check_same(other, {"image": new | {"size": 64}}, where="x")


def test_a_codec_that_the_talker_was_not_trained_with_is_refused(tmp_path):
    codec = thinker()
    folder = save_export(
        tmp_path / "talker", {"codec": codec}, metadata={"codec": weights_fingerprint(codec)}, files={}
    )
    assert list(load_export(folder).modules) == ["codec"]
    rewrite(folder, lambda tensors: tensors["codec.head.weight"].add_(1))
    with pytest.raises(ValueError, match=r"talker: codec differs: it was trained with '\w{16}', this run has '\w{16}'"):
        load_export(folder)
