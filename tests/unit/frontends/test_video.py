import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from muomni.frontends import video
from muomni.frontends.video import evenly_spaced, natural_order, read_video

COLOURS = ["red", "lime", "blue", "white", "black"]


def brightest(frame: torch.Tensor) -> list[int]:
    return [int(value > 128) for value in frame[:, 5, 5]]


def test_frames_are_evenly_spread():
    assert evenly_spaced(100, 4) == [12, 37, 62, 87]
    assert evenly_spaced(3, 8) == [0, 1, 2]
    assert evenly_spaced(9, 1) == [4]


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
    with pytest.raises(ValueError, match="holds no images"):
        read_video(tmp_path, 2)
    for name in ("junk.gif", "junk.mp4"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name, 2)


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    for number, colour in ((1, "red"), (2, "lime"), (10, "blue"), (11, "white")):
        Image.new("RGB", (10, 10), colour).save(tmp_path / f"Frame {number}.PNG")
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    assert [brightest(frame) for frame in read_video(tmp_path, 4)] == expected
    names = ["b", "a10", "a2b1", "a2", "10", "9", "a", "", "07"]
    assert sorted(map(Path, names), key=natural_order) == list(
        map(Path, ["", "07", "9", "10", "a", "a2", "a2b1", "a10", "b"])
    )


def test_pixels_of_all_frames_are_bounded_before_they_are_decoded(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (10, 10), colour) for colour in COLOURS]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(video, "MAX_KEPT_PIXELS", 199)
    with pytest.raises(ValueError, match=r"^\S*a\.gif: its frames are over 199 pixels together"):
        read_video(tmp_path / "a.gif", 2)
    assert len(read_video(tmp_path / "a.gif", 1)) == 1
    monkeypatch.setattr(video, "MAX_ANIMATED_PIXELS", 499)
    monkeypatch.setattr(video, "image_to_tensor", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(
        ValueError, match=r"^the video \S*a\.gif is too long: 5 frames of 10 x 10, at most 499 pixels together"
    ):
        read_video(tmp_path / "a.gif", 1)


def film(path: Path, frames: int = 10) -> Path:
    """96 wide, 64 high: red on the left, blue on the right."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        pixels = np.zeros((64, 96, 3), np.uint8)
        pixels[:, :48, 0] = 255
        pixels[:, 48:, 2] = 255
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("matrix", "shape", "red"),
    [
        ((1, 0, 0, 1), (64, 96), (32, 10)),
        ((0, 1, -1, 0), (96, 64), (10, 32)),  # a quarter clockwise: what is on the left comes to the top
        ((-1, 0, 0, -1), (64, 96), (32, 86)),
        ((0, -1, 1, 0), (96, 64), (86, 32)),
    ],
)
def test_a_film_stands_as_players_show_it(tmp_path, matrix, shape, red):
    path = film(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    one = 0x10000
    at = data.index(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 0x40000000), data.index(b"tkhd"))
    a, b, c, d = (one * value for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    (frame,) = read_video(path, 1)
    assert tuple(frame.shape) == (3, *shape)
    assert frame[:, red[0], red[1]].argmax() == 0
    assert frame[:, shape[0] - 1 - red[0], shape[1] - 1 - red[1]].argmax() == 2


def test_a_film_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4")
    assert len(read_video(path, 3)) == 3
    monkeypatch.setattr(video, "MAX_FILM_PIXELS", 96 * 64 * 10 - 1)
    monkeypatch.setattr(video, "_decoded", lambda *a: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"a\.mp4 is too long: 10 frames of 96 x 64"):
        read_video(path, 1)
