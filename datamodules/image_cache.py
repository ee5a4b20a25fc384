"""Images by index, decoded and resized once and kept in memory as long as they fit.

Legend: S image side.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from datamodules.manifests import Row, report_bad
from datamodules.media import Media
from datamodules.parallel_read import map_files
from muomni.frontends.image import ImageFrontend, ImageSpec, check_image, read_image


class ImageCache:
    """Frontend outputs by index, computed on first use; beyond the memory limit they are computed each time.

    Args:
        images: paths, or files inside others. spec: of the frontend. memory_mb: megabytes to keep at most (float16).
    """

    def __init__(self, images: Sequence[Media], spec: ImageSpec, *, memory_mb: int) -> None:
        self.images, self.frontend = list(images), ImageFrontend(spec)
        kept = min(len(self.images), memory_mb * 2**20 // (6 * spec.size**2))
        self._pixels = torch.empty(kept, 3, spec.size, spec.size, dtype=torch.float16)
        self._ready = torch.zeros(kept, dtype=torch.bool)

    def __getitem__(self, index: int) -> Tensor:
        """(3, S, S) float32, normalised."""
        if index >= len(self._ready):
            return self._read(index)
        if not self._ready[index]:
            self._pixels[index] = self._read(index)
            self._ready[index] = True
        return self._pixels[index].float()

    def _read(self, index: int) -> Tensor:
        return self.frontend(read_image(self.images[index], matte=self.frontend.spec.matte))


def drop_broken_images(
    rows: list[Row], *, what: str, images: Callable[[Row], Sequence[Media]] = lambda row: [row["image"]]
) -> list[Row]:
    """The rows whose images can be decoded; the others are counted and reported, over 1 % of them is a ValueError.

    Every image is checked, once, since a broken one would end the training at the step that draws it. what: the name of
    the data in messages. images: of a row.
    """

    def fault(image: Media) -> str | None:
        try:
            check_image(image)
        except (ValueError, FileNotFoundError) as error:
            return str(error)
        return None

    every = list(dict.fromkeys(image for row in rows for image in images(row)))
    found = map_files(fault, every, title=f"images of {what}", unit="image", bar_from=2000)
    faults = dict(zip(every, found, strict=True))
    errors = [next(filter(None, map(faults.get, images(row))), None) for row in rows]
    bad = [f"{row['id']}: {error}" for row, error in zip(rows, errors, strict=True) if error is not None]
    report_bad(bad, total=len(rows), what=what)
    return [row for row, error in zip(rows, errors, strict=True) if error is None]
