"""Files of torch.save from someone else: data, in memory that their size explains, or one line without torch's advice."""

import pickle
import zipfile

import pytest
import torch

from muomni.checkpoints.safe_load import check_tensors, load_data, reason


class Planted:
    def __reduce__(self):
        return (print, ("executed",))


def test_torchs_advice_to_execute_it_is_never_repeated(tmp_path, capsys):
    torch.save({"a": Planted()}, tmp_path / "a.pt")
    with (tmp_path / "b.pt").open("wb") as file:
        pickle.dump(Planted(), file)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "c.pt")
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(ValueError, match="nothing in it is executed") as error:
            load_data(tmp_path / name)
        assert "weights_only" not in str(error.value) and len(str(error.value).splitlines()) == 1
    assert "executed" not in capsys.readouterr().out
    assert reason(PermissionError(13, "Permission denied")) == "no permission to read it"


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 99, b"\x80\x02", b"\x80\x04\x95" + b"\xff" * 20])
def test_other_files_are_one_line(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r".") as error:
        load_data(tmp_path / "a.pt")
    assert len(str(error.value).splitlines()) == 1


def test_compressed_entries_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as old,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert (tmp_path / "b.pt").stat().st_size < 100_000
    with pytest.raises(ValueError, match="compressed, which torch never does"):
        load_data(tmp_path / "b.pt")
    assert load_data(tmp_path / "a.pt")["a"].numel() == 1 << 20


def test_tensors_larger_than_their_file_are_refused():
    one = torch.zeros(1)
    check_tensors([("a", torch.zeros(100)), ("tied", torch.zeros(100))], size=500)
    for name, wrong in (
        ("huge", one.expand(1 << 14, 1 << 14)),
        ("sparse", torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), one, (1 << 20,))),
        ("meta", torch.zeros(3, device="meta")),
        ("number", 3),
    ):
        with pytest.raises(ValueError, match=f"{name} is|ask for 1024 MB, the file has 1 KB"):
            check_tensors([(name, wrong)], size=1024)
