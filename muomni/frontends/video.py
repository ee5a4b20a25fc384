"""Video -> evenly sampled frames: animated images (GIF, WebP, PNG), folders of frames, and through PyAV any film.

Shapes: H W pixels.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from muomni.frontends.image_file import MediaError, image_to_tensor, in_one_line, open_image, read_image

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
ANIMATIONS = (".gif", ".webp", ".png", ".apng")
MAX_FRAMES = 36_000
#: Pixels of all frames together, which are decoded to come to those that are kept: a minute or so.
MAX_ANIMATED_PIXELS, MAX_FILM_PIXELS = 2**30, 2**34
MAX_KEPT_PIXELS = 2**28


def read_video(path: str | Path, count: int, *, matte: str = "white") -> list[Tensor]:
    """`count` frames (3, H, W) uint8, evenly spread over the video and upright; fewer where it has fewer. Frames of a folder
    come in the order of the numbers in their names. matte: as of `read_image`.

    Raises FileNotFoundError, or ValueError for a file that holds no frames, holds too many pixels, or needs PyAV; all name it.
    """
    path = Path(path)
    if count < 1:
        raise ValueError(f"video: at least one frame is needed, not {count}")
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGES), key=natural_order)
        if not files:
            raise ValueError(f"the folder {path} holds no images ({', '.join(IMAGES)})")
        wanted = (files[index] for index in evenly_spaced(len(files), count))
        return _collect((read_image(file, matte=matte) for file in wanted), path)
    if not path.is_file():
        raise FileNotFoundError(f"no such video: {path}")
    if path.suffix.lower() in ANIMATIONS:
        return open_image(path, lambda film: _animation(film, path, count, matte), what="a video")
    return _film(path, count)


def natural_order(path: Path) -> list[str | int]:
    """A key that sorts 2 before 10, also within names: frame_2.png, frame_10.png."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name.casefold())]


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` indices below `total`, each in the middle of its equal section; all where there are fewer."""
    count = min(total, count)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def _collect(frames: Iterable[Tensor], path: Path) -> list[Tensor]:
    """The frames; raises ValueError as soon as they are too many pixels to keep."""
    kept: list[Tensor] = []
    for frame in frames:
        if sum(each[0].numel() for each in (*kept, frame)) > MAX_KEPT_PIXELS:
            raise MediaError(
                f"{path}: its frames are over {MAX_KEPT_PIXELS} pixels together; shrink it, or ask for fewer frames"
            )
        kept.append(frame)
    return kept


def _check_work(path: Path, frames: int, width: int, height: int, most: int) -> None:
    if frames * width * height > most:
        raise MediaError(
            f"the video {path} is too long: {frames} frames of {width} x {height}, at most {most} pixels together; "
            "cut or shrink it"
        )


def _animation(film: Image.Image, path: Path, count: int, matte: str) -> list[Tensor]:
    total = min(getattr(film, "n_frames", 1), MAX_FRAMES)
    _check_work(path, total, film.width, film.height, MAX_ANIMATED_PIXELS)
    wanted = evenly_spaced(total, count)
    frames = (frame for index, frame in enumerate(ImageSequence.Iterator(film)) if index in wanted)
    return _collect((image_to_tensor(frame, matte=matte) for frame in frames), path)


def _film(path: Path, count: int) -> list[Tensor]:
    try:
        import av
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path}: films need PyAV (pip install 'muomni[video]'); GIFs and folders of frames need nothing"
        ) from error
    try:
        with av.open(str(path)) as film:
            if not film.streams.video:
                raise MediaError(f"{path}: the file holds no video")
            stream = film.streams.video[0]
            packets = sum(1 for packet in film.demux(stream) if packet.size)  # not decoded
            _check_work(path, min(packets, MAX_FRAMES), stream.width, stream.height, MAX_FILM_PIXELS)
        with av.open(str(path)) as film:
            total = sum(1 for _ in _decoded(film, path))
        wanted = set(evenly_spaced(total, count))
        with av.open(str(path)) as film:
            frames = (frame for index, frame in enumerate(_decoded(film, path)) if index in wanted)
            kept = _collect((_upright(frame) for frame in frames), path)
    except MediaError:
        raise
    except Exception as error:  # PyAV's errors are of many classes
        raise ValueError(f"cannot read {path} as a video: {in_one_line(error)}") from error
    if not kept:
        raise ValueError(f"{path}: the video holds no frames")
    return kept


def _decoded(film: Any, path: Path) -> Iterator[Any]:
    """The first frames of a film; raises ValueError where they hold more pixels than its header promised."""
    pixels = 0
    for _, frame in zip(range(MAX_FRAMES), film.decode(video=0), strict=False):
        pixels += frame.width * frame.height
        _check_work(path, 1, pixels, 1, MAX_FILM_PIXELS)
        yield frame


def _upright(frame: Any) -> Tensor:
    """A film's frame as players show it: phones store it sideways, with a matrix that turns it."""
    turns = round(getattr(frame, "rotation", 0) / 90)  # counter-clockwise
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
