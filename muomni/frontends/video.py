"""Video -> evenly sampled pictures: animated images (GIF, WebP, PNG), folders of frames, and through PyAV any film.

Shapes: H W pixels.
"""

import importlib
import importlib.util
from pathlib import Path

import torch
from PIL import Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from muomni.frontends.image import check_pixels, pixels_of, read_image

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
ANIMATIONS = (".gif", ".webp", ".png", ".apng")
MOST_FRAMES = 36_000


def read_video(path: str | Path, count: int) -> list[Tensor]:
    """`count` frames (3, H, W) uint8, evenly spread over the video; fewer where it has fewer.

    Raises FileNotFoundError, or ValueError for a file that holds no frames or needs PyAV; both name it.
    """
    path = Path(path)
    if count < 1:
        raise ValueError(f"video: at least one frame is needed, not {count}")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise ValueError(f"the folder {path} holds no pictures ({', '.join(PICTURES)})")
        return [read_image(files[place]) for place in spread(len(files), count)]
    if not path.is_file():
        raise FileNotFoundError(f"no such video: {path}")
    return _animation(path, count) if path.suffix.lower() in ANIMATIONS else _film(path, count)


def spread(total: int, count: int) -> list[int]:
    """`count` places of `total`, each in the middle of its equal part; all where there are fewer."""
    count = min(total, count)
    return [(2 * place + 1) * total // (2 * count) for place in range(count)]


def _animation(path: Path, count: int) -> list[Tensor]:
    try:
        with Image.open(path) as film:
            check_pixels(path, film)
            wanted = set(spread(min(getattr(film, "n_frames", 1), MOST_FRAMES), count))
            return [
                pixels_of(frame.convert("RGBA"))
                for place, frame in enumerate(ImageSequence.Iterator(film))
                if place in wanted
            ]
    except (UnidentifiedImageError, OSError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read {path} as a video: {error}") from error


def _film(path: Path, count: int) -> list[Tensor]:
    if importlib.util.find_spec("av") is None:
        raise ValueError(
            f"{path}: films need PyAV (pip install 'muomni[video]'); GIFs and folders of frames need nothing"
        )
    av = importlib.import_module("av")
    try:
        with av.open(str(path)) as film:
            if not film.streams.video:
                raise ValueError(f"{path}: the file holds no video")
            total = sum(1 for _ in zip(range(MOST_FRAMES), film.decode(video=0), strict=False))
        wanted = set(spread(total, count))
        with av.open(str(path)) as film:
            frames = zip(range(total), film.decode(video=0), strict=False)
            kept = [frame.to_ndarray(format="rgb24") for place, frame in frames if place in wanted]
    except (OSError, EOFError) as error:  # PyAV's errors are OSErrors
        raise ValueError(f"cannot read {path} as a video: {error}") from error
    if not kept:
        raise ValueError(f"{path}: the video holds no frames")
    return [torch.from_numpy(frame).permute(2, 0, 1).contiguous() for frame in kept]
