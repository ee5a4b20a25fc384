"""Whole or not there, through links and devices, and never in anyone's way."""

import errno
import os
import stat
import threading

import pytest

from muomni.checkpoints.atomic_write import atomic_write, is_written_through, partial_name


def write(path, content=b"new"):
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def fail(path, error):
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"ne")
        raise error


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        fail(path, RuntimeError())
    assert path.read_text() == "old"
    write(path)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_links_stay_and_what_they_lead_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("there", "to_come"):
        (tmp_path / name).symlink_to(tmp_path / "middle" / name)
    (tmp_path / "middle").symlink_to("disk")
    (tmp_path / "disk" / "there").write_text("old")
    for name in ("there", "to_come"):
        write(tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "disk" / name).read_bytes() == b"new"
    (tmp_path / "lost").symlink_to(tmp_path / "unmounted" / "lost")
    with pytest.raises(
        FileNotFoundError, match=r"lost is a symbolic link to .*/unmounted/lost, whose folder is not there"
    ):
        write(tmp_path / "lost")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="leads back to itself"):
        write(tmp_path / "loop")


def test_devices_and_pipes_are_written_through_and_stay(tmp_path):
    """Also as root, who may replace them."""
    pipe, link, received = tmp_path / "pipe", tmp_path / "link", []
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
        reader.start()
        write(path, b"sound")
        reader.join(timeout=10)
    assert received == [b"sound", b"sound"]
    assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink()
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    write(null)
    assert null.is_symlink() and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "null", "pipe"]


def test_an_open_descriptor_is_no_file_to_be_replaced(tmp_path):
    """/dev/stdout, redirected to a file: the shell's descriptor would go on with the file of before."""
    with (tmp_path / "out").open("w") as file:
        assert is_written_through(tmp_path / "out") is False
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        assert is_written_through(tmp_path / "link")


def test_modes_are_those_of_a_new_file_or_of_the_old_one(tmp_path):
    before = os.umask(0o022)
    try:
        write(tmp_path / "new")
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o600)
        with atomic_write(tmp_path / "old") as temporary:
            temporary.chmod(0o666)
    finally:
        os.umask(before)
    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("new", "old")] == ["0o644", "0o600"]


def test_an_error_names_the_file_that_the_user_knows(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone/a'$"):
        write(tmp_path / "gone" / "a")
    with pytest.raises(OSError, match=r"No space left on device: '.*/b'$"):
        fail(tmp_path / "b", OSError(errno.ENOSPC, "No space left on device"))
    long = tmp_path / ("ü" * 120 + "x")
    write(long)
    assert list(tmp_path.iterdir()) == [long]
    assert len(os.fsencode(partial_name(long).name)) <= 255
