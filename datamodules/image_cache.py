"""Images by index, decoded and resized once and kept in memory as long as they fit, and in a file after that.

Legend: S image side.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.lazy_media import LazyImages
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, report_bad
from datamodules.media import Media
from datamodules.parallel_read import map_files
from muomni.frontends.image import ImageFrontend, ImageSpec, check_image, read_image

log = logging.getLogger(__name__)

DISK_SHARE = 0.5  # of the free disk that a file of images may take


class ImageCache:
    """Frontend outputs by index, computed on first use. Beyond the memory limit they are kept in a memory-mapped file that the
    workers of a loader share and that is gone with the process; without a cache folder, or where the disk has not twice the
    room, they are computed each time.

    Args:
        images: paths, or files inside others. spec: of the frontend. memory_mb: megabytes to keep at most (float16).
        cache: folder of the file; None: no file.
    """

    def __init__(self, images: Sequence[Media], spec: ImageSpec, *, memory_mb: int, cache: str | None = None) -> None:
        self.images = images if isinstance(images, LazyImages) else list(images)
        self.frontend = ImageFrontend(spec)
        kept = min(len(self.images), memory_mb * 2**20 // (6 * spec.size**2))
        self._pixels = torch.empty(kept, 3, spec.size, spec.size, dtype=torch.float16)
        self._ready = torch.zeros(kept, dtype=torch.bool)
        self._disk = _disk_images(cache, len(self.images) - kept, spec.size)

    def __getstate__(self) -> dict[str, Any]:
        """Without the file, which a process that is not a fork cannot share."""
        return vars(self) | {"_disk": None}

    def __getitem__(self, index: int) -> Tensor:
        """(3, S, S) float32, normalised."""
        if index >= len(self._ready):
            if self._disk is None:
                return self._read(index)
            return self._disk.get(index - len(self._ready), lambda: self._read(index))
        if not self._ready[index]:
            self._pixels[index] = self._read(index)
            self._ready[index] = True
        return self._pixels[index].float()

    def _read(self, index: int) -> Tensor:
        return self.frontend(read_image(self.images[index], matte=self.frontend.spec.matte))


class DiskImages:
    """Images in a file without a name, which the system removes with the process; forks share it.

    Args:
        folder: of the file. count: of images. size: their side.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (open as long as its images are)
        shape = (count, 3, size, size)
        os.truncate(self.file.fileno(), 2 * int(np.prod(shape)))  # takes no room before it is written
        self.pixels = np.asarray(np.memmap(self.file, dtype=np.float16, mode="r", shape=shape))
        self.ready = torch.zeros(count, dtype=torch.bool).share_memory_()

    def get(self, index: int, compute: Callable[[], Tensor]) -> Tensor:
        """Image `index`, computed where no process has computed it yet."""
        if not self.ready[index]:
            content = compute().to(torch.float16).numpy()
            # not through the map: where the disk is full that would end the process
            os.pwrite(self.file.fileno(), content.tobytes(), index * content.nbytes)
            self.ready[index] = True
        return torch.from_numpy(self.pixels[index].astype(np.float32))


def _disk_images(cache: str | None, count: int, size: int) -> DiskImages | None:
    if cache is None or not count:
        return None
    folder, need = Path(cache), 6 * count * size**2
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if need > DISK_SHARE * free:
        log.warning(
            "%d images are decoded whenever they are drawn: decoded they would take %.1f GB, and %s has %.1f GB free",
            count, need / 1e9, folder, free / 1e9,
        )  # fmt: skip
        return None
    return DiskImages(folder, count, size)


def image_cache(rows: Sequence[Row], spec: ImageSpec, *, memory_mb: int, cache: str | None) -> ImageCache:
    """A cache of the rows' images."""
    if isinstance(rows, LazyRows):
        return ImageCache(LazyImages(rows), spec, memory_mb=0, cache=cache)
    return ImageCache([row["image"] for row in rows], spec, memory_mb=memory_mb, cache=cache)


def drop_broken_images(
    rows: Sequence[Row], *, what: str, images: Callable[[Row], Sequence[Media]] = lambda row: [row["image"]]
) -> Sequence[Row]:
    """The rows whose images can be decoded; the others are counted and reported, over 1 % of them is a ValueError. Rows that stay
    on the disk are all returned: what is broken among them is left out when it is drawn (fault_tolerant_loader.py).

    Every image is checked, once, since a broken one would end the training at the step that draws it. what: the name of
    the data in messages. images: of a row.
    """

    if isinstance(rows, LazyRows):
        return rows

    def fault(image: Media) -> str | None:
        try:
            check_image(image)
        except (ValueError, FileNotFoundError) as error:
            return str(error)
        return None

    every = list(dict.fromkeys(image for row in rows for image in images(row)))
    found = map_files(fault, every, title=f"images of {what}", unit="image")
    faults = dict(zip(every, found, strict=True))
    errors = [next(filter(None, map(faults.get, images(row))), None) for row in rows]
    bad = [f"{row['id']}: {error}" for row, error in zip(rows, errors, strict=True) if error is not None]
    report_bad(bad, total=len(rows), what=what)
    return [row for row, error in zip(rows, errors, strict=True) if error is None]
