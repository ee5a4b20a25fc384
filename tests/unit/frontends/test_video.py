import pytest
import torch
from PIL import Image

from muomni.frontends.video import read_video, spread

COLOURS = ["red", "lime", "blue", "white", "black"]


def brightest(frame: torch.Tensor) -> list[int]:
    return [int(value > 128) for value in frame[:, 5, 5]]


def test_frames_are_evenly_spread():
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(9, 1) == [4]


def test_an_animation_gives_its_frames(tmp_path):
    frames = [Image.new("RGB", (10, 10), colour) for colour in COLOURS]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert [brightest(frame) for frame in read_video(tmp_path / "a.gif", 3)] == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_a_folder_of_pictures_is_a_video(tmp_path):
    for place, colour in enumerate(COLOURS[:3]):
        Image.new("RGB", (10, 10), colour).save(tmp_path / f"{place}.png")
    assert [brightest(frame) for frame in read_video(tmp_path, 9)] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_bad_videos_are_errors_that_name_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.gif"):
        read_video(tmp_path / "gone.gif", 2)
    with pytest.raises(ValueError, match="holds no pictures"):
        read_video(tmp_path, 2)
    for name in ("junk.gif", "junk.mp4"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name, 2)
