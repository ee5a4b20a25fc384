"""Projectors of an encoder's features: into the Thinker's embedding space, or into the contrastive one.

Legend: B batch, N tokens, P patches, T audio frames, D width of the encoder, O width of the output, K frames a token.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from muomni.models.outputs import AudioOutput, VisionOutput
from muomni.models.registry import register
from muomni.nn.conv import Length, frame_mask, silence
from muomni.nn.patch import gather_cells

IMAGE_TOKENS = ("cls", "grid", "none")
#: A word piece among features is written in three digits of base 128, which bfloat16 holds exactly.
DIGITS, BASE = 3, 128


def _layers(width: int, hidden: int | None, out: int, *, scale: float) -> nn.Module:
    """One linear map, or two with a GELU between (Liu et al. 2023, arXiv:2310.03744); the last one's initial weights
    times `scale`."""
    last = nn.Linear(width if hidden is None else hidden, out)
    with torch.no_grad():
        last.weight.mul_(scale)
    return last if hidden is None else nn.Sequential(nn.Linear(width, hidden), nn.GELU(), last)


@register("image_projector")
class ImageProjector(nn.Module):
    """Features of an image -> the Thinker's image tokens.

    Args:
        dim: D. out_dim: O. hidden: width between two layers, None for a single linear map.
        image_tokens: "cls", one token; "grid", grid x grid tokens, each of the concatenated patches of its cell;
            "none", no token: the blind model of an ablation.
        grid: k, tokens a side, and cell: patches of a cell, (patches a side / k) ** 2; both with "grid" alone.
        scale: of the last layer's initial weights, so that image tokens have the norm of the Thinker's embeddings.
        positions: initial standard deviation of a learned position embedding of each token; 0 is none. Contrastive
            features carry little of their position.
    """

    def __init__(
        self,
        *,
        dim: int,
        out_dim: int,
        image_tokens: str,
        grid: int = 1,
        cell: int = 1,
        hidden: int | None = None,
        scale: float = 1.0,
        positions: float = 0.0,
    ) -> None:
        super().__init__()
        if image_tokens not in IMAGE_TOKENS:
            raise ValueError(f"image_tokens={image_tokens!r}; available: {', '.join(IMAGE_TOKENS)}")
        self.image_tokens, self.grid = image_tokens, grid
        self.num_tokens = {"cls": 1, "grid": grid * grid, "none": 0}[image_tokens]
        self.layers = _layers(dim * cell if image_tokens == "grid" else dim, hidden, out_dim, scale=scale)
        self.positions = nn.Parameter(torch.randn(self.num_tokens, out_dim) * positions) if positions else None

    def pool(self, features: VisionOutput) -> Tensor:
        """The features of each token, before any weight of this module, so that they can be cached: (B, N, cell * D)."""
        if self.image_tokens == "cls":
            return features.cls
        if self.image_tokens == "none":
            return features.grid[:, :0]
        return gather_cells(features.grid, self.grid).flatten(2)

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, N, cell * D) -> (B, N, O)."""
        tokens = self.layers(pooled)
        return tokens if self.positions is None else tokens + self.positions


@register("audio_projector")
class AudioProjector(nn.Module):
    """Audio frames -> the Thinker's audio tokens: K neighbouring frames become one.

    Args:
        dim: D. out_dim: O. stack: K. hidden, scale: as in `ImageProjector`.
        characters: number of CTC classes whose probabilities join each frame; 0 leaves them out.
        words: what the encoder's CTC head reads enters as the Thinker's own embeddings of its word pieces, one after the other
            from the first token on: a question that is spoken then reads as one that is typed, and the tokens that are left
            are the sound of theirs. Pieces beyond the last token are left out. (Ma et al. 2025, arXiv:2505.11352, mix the
            embeddings by the head's probabilities, one token a frame; here the pieces stand side by side, as in a text.)
    """

    def __init__(
        self,
        *,
        dim: int,
        out_dim: int,
        stack: int,
        characters: int = 0,
        hidden: int | None = None,
        scale: float = 1.0,
        words: bool = False,
    ) -> None:
        super().__init__()
        self.stack, self.characters, self.words = stack, characters, words
        self.layers = _layers((dim + characters) * stack, hidden, out_dim, scale=scale)

    def num_tokens(self, frames: Length) -> Length:
        """Tokens of an audio of so many encoder frames: ceil(frames / K)."""
        return (frames + self.stack - 1) // self.stack

    def pool(self, features: AudioOutput, *, pieces: Sequence[Sequence[int]] = ()) -> tuple[Tensor, Tensor]:
        """(B, ceil(T / K), W) and the lengths (B) in tokens, W = K * (D + characters), and with `words` 3 more for the `pieces`
        of each clip, ids. Frames past a length become zeros."""
        x, lengths = self.pool_sound(features)
        return (torch.cat((x, self._written(pieces, lengths, x)), dim=-1) if self.words else x), lengths

    def pool_sound(self, features: AudioOutput) -> tuple[Tensor, Tensor]:
        """`pool` without the words."""
        x = features.hidden
        if self.characters:
            # Probabilities, not their logarithms: bounded, and zero nearly everywhere.
            x = torch.cat((x, features.logits.float().softmax(dim=-1).to(x.dtype)), dim=-1)
        T = x.shape[1]
        x = F.pad(silence(x, frame_mask(features.lengths, T)), (0, 0, 0, -T % self.stack))
        return rearrange(x, "b (t k) d -> b t (k d)", k=self.stack), self.num_tokens(features.lengths)

    @staticmethod
    def _written(pieces: Sequence[Sequence[int]], lengths: Tensor, x: Tensor) -> Tensor:
        """Ids as digits (B, N, 3) of id + 1, zeros where there is none."""
        B, N, _ = x.shape
        assert len(pieces) == B, f"words of {len(pieces)} clips for {B} clips"
        numbers = torch.zeros(B, N, dtype=torch.long)
        for row, each in enumerate(pieces):
            few = torch.tensor(each[:N], dtype=torch.long)
            numbers[row, : len(few)] = few + 1
        digits = torch.stack([numbers // BASE**place % BASE for place in range(DIGITS)], dim=-1)
        return silence(digits.to(x.device, x.dtype, non_blocking=True), frame_mask(lengths, N))  # cut without a wait

    def pieces(self, pooled: Tensor) -> Tensor | None:
        """pooled (B, N, W) -> ids (B, N) of the word pieces in it, -1 where there is none; None without `words`."""
        if not self.words:
            return None
        digits = pooled[..., -DIGITS:].long()
        return sum((digits[..., place] * BASE**place for place in range(DIGITS)), start=torch.tensor(-1))

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled (B, N, W) -> (B, N, O): the sound."""
        return self.layers(pooled[..., :-DIGITS] if self.words else pooled)


@register("image_head")
class ImageHead(nn.Module):
    """Features of an image -> the space shared with captions (contrastive training only).

    Args:
        dim: D. embed_dim: O. pool: "cls" or "mean" of the patches, for the vector of the whole image.
        grid: k: the patches are averaged to k x k cells, which are compared with the words of a caption.
    """

    def __init__(self, *, dim: int, embed_dim: int, pool: str, grid: int) -> None:
        super().__init__()
        if pool not in ("cls", "mean"):
            raise ValueError(f"image head: pool={pool!r}; available: cls, mean")
        self.pool, self.grid = pool, grid
        self.pooled_head = nn.Linear(dim, embed_dim)
        self.token_head = nn.Linear(dim, embed_dim)

    def forward(self, features: VisionOutput) -> tuple[Tensor, Tensor]:
        """(B, O) of the image and (B, k * k, O) of its cells; not normalised."""
        whole = features.cls[:, 0] if self.pool == "cls" else features.grid.mean(dim=1)
        return self.pooled_head(whole), self.token_head(gather_cells(features.grid, self.grid).mean(dim=2))
