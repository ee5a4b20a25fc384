"""A file is found whatever Unicode form its name is written in, by slashes or backslashes."""

import unicodedata

import pytest

from datamodules.shapes import find_media
from muomni.user_path import find, user_path

NFC, NFD = (unicodedata.normalize(form, "été/à la plage.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("asked", [NFC, NFD, NFC.replace("/", "\\"), NFD.replace("/", "\\")])
def test_names_in_either_form_are_found(tmp_path, monkeypatch, stored, asked):
    file = tmp_path / stored
    file.parent.mkdir()
    file.touch()
    assert find(str(tmp_path / asked)) == str(file)
    assert find_media(asked, tmp_path) == str(file)
    assert user_path(tmp_path / asked) == file
    monkeypatch.chdir(tmp_path)
    assert find(asked) == stored


def test_a_name_that_is_there_is_itself(tmp_path, monkeypatch):
    (tmp_path / "a\\b.txt").touch()
    assert find(str(tmp_path / "a\\b.txt")) == str(tmp_path / "a\\b.txt")
    assert find(str(tmp_path / "nothing" / "é")) == str(tmp_path / "nothing" / "é")
    assert find("") == ""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/a\\b.txt") == str(tmp_path / "a\\b.txt")
