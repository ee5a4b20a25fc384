"""Pictures by path, decoded and fitted once and kept in memory as long as they fit.

Legend: S image side.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from datamodules.manifests import report_bad
from muomni.frontends.image import ImageFrontend, ImageSpec, check_image, read_image


class ImageCache:
    """Frontend outputs by index, filled as they are asked for; beyond the memory limit they are decoded each time.

    Args:
        paths: of the pictures. spec: of the frontend. memory_mb: most megabytes to keep (float16).
    """

    def __init__(self, paths: Sequence[str], spec: ImageSpec, *, memory_mb: int) -> None:
        self.paths, self.frontend = list(paths), ImageFrontend(spec)
        kept = min(len(self.paths), memory_mb * 2**20 // (6 * spec.size**2))
        self._pixels = torch.empty(kept, 3, spec.size, spec.size, dtype=torch.float16)
        self._ready = torch.zeros(kept, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """(3, S, S) float32, normalised."""
        if index >= len(self._ready):
            return self._see(index)
        if not self._ready[index]:
            self._pixels[index] = self._see(index)
            self._ready[index] = True
        return self._pixels[index].float()

    def _see(self, index: int) -> Tensor:
        return self.frontend(read_image(self.paths[index], matte=self.frontend.spec.matte))


def drop_broken_images(
    rows: list[dict[str, Any]],
    *,
    what: str,
    pictures: Callable[[dict[str, Any]], Sequence[str]] = lambda row: [row["image"]],
) -> list[dict[str, Any]]:
    """The rows whose pictures can be decoded; the others are counted and reported, over 1 % of them is a ValueError.

    Every picture is looked at, once, since a broken one would end the training at the step that draws it. what: the name of
    the data in messages. pictures: of a row.
    """

    def fault(path: str) -> str | None:
        try:
            check_image(path)
        except (ValueError, FileNotFoundError) as error:
            return str(error)
        return None

    paths = list(dict.fromkeys(path for row in rows for path in pictures(row)))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # decoding leaves the lock
        results = pool.map(fault, paths)
        found = tqdm(results, f"pictures of {what}", len(paths), leave=False, unit="picture", mininterval=1,
                     disable=len(paths) < 2000)  # fmt: skip
        faults = {path: error for path, error in zip(paths, found, strict=True) if error is not None}
    bad = [(row, next((faults[path] for path in pictures(row) if path in faults), None)) for row in rows]
    report_bad([f"{row['id']}: {error}" for row, error in bad if error is not None], total=len(rows), what=what)
    return [row for row, error in bad if error is None]
