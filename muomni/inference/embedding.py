"""Texts and images as vectors of one space, by the towers of stage=vision: similar ones have a high dot product.

Shapes: N inputs, E width of the shared space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.checkpoints.compatibility import check_compatible
from muomni.checkpoints.single_file import read_export
from muomni.frontends.image import ImageSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.errors import ContextLength, InvalidOption, MissingModule
from muomni.inference.load import find_device, read_tokenizer
from muomni.inference.media import Media, Source, spec_from_metadata
from muomni.models.encoders import ImageEncoder
from muomni.models.projector import ImageHead
from muomni.models.text_tower import TextTower

MODULES = ("vision", "text_tower", "image_head")


class Embedder:
    """Both towers of an export of stage=vision. Thread-safe.

    Raises MissingModule for another export, FileNotFoundError or ValueError for one that cannot be read.
    """

    def __init__(self, path: str | Path, *, device: str = "auto") -> None:
        export = read_export(path)
        for name in MODULES:
            if name not in export.modules:
                raise MissingModule(
                    f"{path}: this export has no {name}: embeddings need one of stage=vision", param=name
                )
        check_compatible(export.modules, export.metadata, where=str(path))
        tokenizer = read_tokenizer(export)
        if tokenizer is None:
            raise MissingModule(f"{path}: this export has no tokenizer: export it again", param="tokenizer")
        self.device, self.tokenizer = find_device(device), cast(Tokenizer, tokenizer)
        modules = [export.modules[name].to(self.device).eval() for name in MODULES]
        self.vision, self.text_tower, self.image_head = cast(tuple[ImageEncoder, TextTower, ImageHead], tuple(modules))
        self.media = Media(image=spec_from_metadata(ImageSpec, export.metadata, "image", where=str(path)), mel=None)

    @property
    def dimensions(self) -> int:
        """E."""
        return self.image_head.pooled_head.out_features

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Texts -> unit vectors (N, E), and the tokens of each. A vector does not depend on its neighbours. Raises InvalidOption
        for an empty text, ContextLength for one that is too long."""
        rows = [torch.tensor(self.tokenizer.encode(text)) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not text.strip() or not len(row):
                raise InvalidOption("an empty text has no embedding", param="input")
            if len(row) > self.text_tower.max_length:
                raise ContextLength(
                    f"a text of {len(row)} tokens; the text tower reads {self.text_tower.max_length}", param="input"
                )
        # One by one: padding changes float32 sums, and a vector would then depend on what was sent with it.
        vectors = [
            self.text_tower(row[None].to(self.device), torch.tensor([len(row)], device=self.device)).pooled
            for row in rows
        ]
        return F.normalize(torch.cat(vectors).float(), dim=-1).cpu(), [len(row) for row in rows]

    @torch.inference_mode()
    def images(self, images: Sequence[Source]) -> Tensor:
        """Images -> unit vectors (N, E). Errors as of `Media.images`."""
        pixels = self.media.images(images)
        assert pixels is not None
        vectors = [self.image_head(self.vision(each[None].to(self.device)))[0] for each in pixels]
        return F.normalize(torch.cat(vectors).float(), dim=-1).cpu()
