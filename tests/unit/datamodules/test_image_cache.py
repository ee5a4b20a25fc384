"""Broken pictures are left out, counted, and an error where they are many."""

import logging

import pytest
from PIL import Image

from datamodules import image_cache
from datamodules.image_cache import drop_broken_images


@pytest.fixture
def rows(tmp_path):
    """200 rows of one good picture, the fourth broken."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-100])
    rows = [{"id": f"x:{number}", "image": str(tmp_path / "good.jpg")} for number in range(200)]
    rows[3]["image"] = str(tmp_path / "cut.jpg")
    return rows


def test_a_broken_picture_is_skipped_and_said(rows, caplog):
    with caplog.at_level(logging.WARNING):
        assert drop_broken_images(rows, what="x.json") == rows[:3] + rows[4:]
    assert "x.json: skipped 1 of 200 samples; the first: x:3: cannot read" in caplog.text
    assert "cut.jpg" in caplog.text


def test_over_one_percent_is_an_error(rows):
    with pytest.raises(ValueError, match=r"x\.json: 1 of 99 samples cannot be used .* x:3: cannot read .*cut\.jpg"):
        drop_broken_images(rows[:99], what="x.json")


def test_pictures_of_a_row_are_looked_at_once_each(rows, caplog, monkeypatch):
    seen: list[str] = []
    check = image_cache.check_image
    monkeypatch.setattr(image_cache, "check_image", lambda path: (seen.append(path), check(path))[1])
    with caplog.at_level(logging.WARNING):
        kept = drop_broken_images(rows, what="x.json", images=lambda row: [rows[0]["image"], row["image"]])
    assert kept == rows[:3] + rows[4:]
    assert len(seen) == 2
    assert "skipped 1 of 200" in caplog.text
