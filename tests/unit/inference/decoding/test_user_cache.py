"""Compiled code is run: from a folder of the user's own, which does not grow for ever, and from no export."""

import os
import time
from pathlib import Path

import pytest
import torch

from muomni.inference.decoding import aot_cache
from muomni.inference.decoding.user_cache import cache_folder, check_own, prune


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_the_owners_alone(home):
    (home / "muomni").mkdir(parents=True)
    (home / "muomni").chmod(0o777)
    folder = cache_folder("compiled")
    assert folder == home / "muomni" / "compiled"
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder.parent)] == ["0o700", "0o700"]


def test_a_relative_name_counts_as_none(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder("compiled") == tmp_path / "me" / ".cache" / "muomni" / "compiled"


def test_what_belongs_to_someone_else_is_not_run(home, monkeypatch):
    folder = cache_folder("compiled")
    (folder / "decode.pt2").write_bytes(b"code")
    (folder / "decode.pt2").chmod(0o666)
    with pytest.raises(ValueError, match=r"decode\.pt2 can be written by other users: code in it is not run"):
        check_own(folder / "decode.pt2")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    if os.getuid() == 0:  # whose files are trusted
        os.chown(folder, 4712, -1)
    with pytest.raises(ValueError, match="compiled belongs to another user: code in it is not run"):
        check_own(folder)


def test_a_folder_that_cannot_be_made_names_the_way_out(home):
    home.write_text("")
    with pytest.raises(ValueError, match=r"muomni/compiled: compiled steps cannot be kept there .*packages=DIR"):
        cache_folder("compiled")


def test_what_was_used_least_lately_goes(tmp_path):
    now = time.time()
    for age in range(6):
        path = tmp_path / f"decode-{age}.pt2"
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - 7200 - age, now - 7200 - age))
    prune(tmp_path.glob("*.pt2"), max_files=4, max_bytes=1 << 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"decode-{age}.pt2" for age in range(4)]
    prune(tmp_path.glob("*.pt2"), max_files=9, max_bytes=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"decode-{age}.pt2" for age in range(2)]
    (tmp_path / "decode-9.pt2").write_bytes(b"x" * 500)  # young: it may be in the making
    prune(tmp_path.glob("*.pt2"), max_files=0, max_bytes=0)
    assert [path.name for path in tmp_path.iterdir()] == ["decode-9.pt2"]


def test_packages_lie_in_the_cache_and_are_loaded_from_elsewhere_only_by_name(home, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(aot_cache, "_build", lambda step, example, dynamic, path: (built.append(path), path.touch()))
    monkeypatch.setattr(aot_cache, "_load", lambda path, step, device: path)
    (tmp_path / "named").mkdir()

    def find(folder):
        device = torch.device("cpu")
        return aot_cache.find_or_build(torch.nn.Identity(), [], dynamic=[], key={}, folder=folder, device=device)

    assert Path(find(None)).parent == home / "muomni" / "compiled"
    assert Path(find(tmp_path / "named")).parent == tmp_path / "named"
    assert find(None) == built[0] and len(built) == 2
    built[0].chmod(0o666)
    with pytest.raises(ValueError, match="can be written by other users"):
        find(None)


def test_torch_compiles_in_the_cache_unless_the_user_chose_a_place(home, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is put back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    aot_cache.use_private_compiler_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(home / "muomni" / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    aot_cache.use_private_compiler_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"
