"""Text recognition in images: a vision transformer's patch grid, and a decoder that spells out the text.

The decoder is a Thinker of its own over [patches][BOS][characters]: the image is its prompt (as in Donut, Kim et al. 2022,
arXiv:2111.15664, and TrOCR, Li et al. 2023, arXiv:2109.10282, but as a prefix instead of by cross-attention).

Legend: B batch, I image side in pixels, P patches, C characters, D width of the decoder, V symbols.
"""

from typing import Any

import torch
from torch import Tensor, nn

from muomni.models.outputs import OcrOutput
from muomni.models.registry import check_characters, register
from muomni.models.thinker import Thinker
from muomni.models.vision import VisionTransformer
from muomni.special_tokens import PIECES


@register("ocr")
class Ocr(nn.Module):
    """Image -> characters.

    Args:
        num_symbols: V, the special tokens and the characters. max_characters: the most in an image.
        image_size, patch, stem_channels, stem_patch: of the encoder, see `VisionTransformer`.
        encoder_layers, num_layers: blocks of encoder and decoder. dim, num_heads, ff_dim: shape of both.
        characters: of the decoder, after the special tokens and before one for all others; None: the standard ones.
    """

    def __init__(
        self,
        *,
        num_symbols: int,
        max_characters: int,
        image_size: int,
        patch: int,
        stem_channels: list[int] | tuple[int, ...],
        stem_patch: int,
        encoder_layers: int,
        num_layers: int,
        dim: int,
        num_heads: int,
        ff_dim: int,
        dropout: float = 0.0,
        characters: str | None = None,
    ) -> None:
        super().__init__()
        check_characters(characters, num_symbols=num_symbols, others=len(PIECES))
        self.characters = characters
        self.max_characters = max_characters
        shape: dict[str, Any] = {"dim": dim, "num_heads": num_heads, "ff_dim": ff_dim, "dropout": dropout}
        stem: dict[str, Any] = {"patch": patch, "stem_channels": stem_channels, "stem_patch": stem_patch}
        self.vision = VisionTransformer(image_size=image_size, num_layers=encoder_layers, **stem, **shape)
        self.patches = self.vision.side**2
        longest = self.patches + 1 + max_characters
        self.decoder = Thinker(
            vocab_size=num_symbols, num_layers=num_layers, num_kv_heads=num_heads, max_length=longest, **shape
        )
        self.bridge = nn.Linear(dim, dim)

    def encode_prompt(self, images: Tensor) -> Tensor:
        """images (B, 3, I, I) -> (B, P, D): the decoder's prompt."""
        return self.bridge(self.vision(images).grid)

    def forward(self, images: Tensor, ids: Tensor) -> OcrOutput:
        """images (B, 3, I, I); ids (B, C), BOS and the characters, right-padded -> the logits of what follows each."""
        x = torch.cat((self.encode_prompt(images), self.decoder.embedding(ids)), dim=1)
        return OcrOutput(logits=self.decoder.head(self.decoder.forward_hidden(x).hidden[:, self.patches :]))
