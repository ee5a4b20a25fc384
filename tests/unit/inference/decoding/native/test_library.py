import subprocess
import sys
import threading

import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler

from muomni.inference.decoding.native import library
from muomni.inference.errors import MuomniError


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a process that has loaded nothing, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "_found", [])


def test_without_a_compiler_one_line_says_so_once(fresh, monkeypatch, caplog):
    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none)
    assert not library.available() and not library.available()
    (record,) = caplog.records
    assert record.message == (
        "decoding uses torch's own products, which are slower: there is no C++ compiler (Debian: apt install g++)"
    )


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(library.LEVELS, "plain", ((), ("-mno-such-thing",)))
    with pytest.raises(MuomniError, match=r"cannot compile .*native: .*error.*-mno-such-thing"):
        library.build(tmp_path / "operators.so", "plain")
    assert not list(tmp_path.iterdir())


def test_a_damaged_library_is_removed_and_built_again(fresh, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(library, "build", lambda path, name: path.write_bytes(b"damaged"))
    assert not library.available()
    assert "cannot be loaded" in caplog.text and "it is built again next time" in caplog.text
    assert not list((tmp_path / "muomni" / "native").iterdir())


def test_a_level_is_one_that_the_processor_has(monkeypatch):
    known = {"avx2": True, "fma3": True, "f16c": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert library.level() == "avx2"
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert library.level() == "plain"


def test_another_source_level_or_torch_is_another_library(monkeypatch):
    names = {library._digest("plain"), library._digest("avx2")}
    monkeypatch.setattr(library, "FLAGS", ("-O2",))
    names.add(library._digest("plain"))
    monkeypatch.setattr(torch, "__version__", "9.9")
    names.add(library._digest("plain"))
    assert len(names) == 4


@pytest.mark.skipif(not library.available(), reason="no C++ compiler")
def test_the_process_sees_what_packages_call_and_no_name_of_torch():
    code = """
import ctypes, torch
from muomni.inference.decoding.native import library
before = hasattr(ctypes.CDLL(None), "aoti_torch_cpu_int8_linear")
assert library.available()
print(before, *(hasattr(ctypes.CDLL(None), name) for name in ("aoti_torch_cpu_int8_linear", "aoti_torch_delete_tensor_object")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


def test_nobody_waits_for_operators_that_are_being_built(fresh, monkeypatch, caplog):
    begun, go_on = threading.Event(), threading.Event()

    def build(path, name):
        begun.set()
        assert go_on.wait(30)
        raise MuomniError("no compiler")

    monkeypatch.setattr(library, "_builder", [])
    monkeypatch.setattr(library, "build", build)
    assert not library.ready()
    assert begun.wait(30)
    assert not library.ready()  # while the lock is held
    (thread,) = library._builder
    go_on.set()
    thread.join(30)
    assert not library.ready() and not library.available()
    assert caplog.text.count("no compiler") == 1


def test_operators_without_a_folder_are_not_there(fresh, monkeypatch):
    def refuse(name):
        raise MuomniError("another user's folder")

    monkeypatch.setattr(library, "cache_folder", refuse)
    assert not library.ready()
