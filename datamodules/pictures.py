"""Pictures by path, decoded and fitted once and kept in memory as long as they fit.

Legend: S image side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.frontends.image import ImageFrontend, ImageSpec, read_image


class PictureStore:
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
            return self.frontend(read_image(self.paths[index]))
        if not self._ready[index]:
            self._pixels[index] = self.frontend(read_image(self.paths[index]))
            self._ready[index] = True
        return self._pixels[index].float()
