"""The caption encoder of contrastive training: a small bidirectional transformer with rotary positions.

Legend: B batch, T tokens, D width, E width of the space shared with images.
"""

from functools import partial

import torch
from torch import Tensor, nn

from muomni.models.outputs import TextTowerOutput
from muomni.models.registry import register
from muomni.nn.attention import Attention
from muomni.nn.context import AttentionContext
from muomni.nn.initialise import initialise
from muomni.nn.masks import PaddingMask
from muomni.nn.mlp import SwiGLU
from muomni.nn.rope import Rope
from muomni.nn.transformer import stack


@register("text_tower")
class TextTower(nn.Module):
    """Token ids -> one vector a text and one a token, in the shared space.

    Args:
        vocab_size: of the tokenizer. embed_dim: E. max_length: longest text in tokens.
        dim, num_layers, num_heads, ff_dim, dropout: shape of the blocks.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
        embed_dim: int,
        max_length: int,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size, dim)
        self.rope = Rope(dim // num_heads, theta=10000.0)
        attention = partial(Attention, heads=num_heads, kv_heads=num_heads, causal=False)
        mlp = partial(SwiGLU, hidden=ff_dim)
        self.transformer = stack(num_layers, dim, attention=attention, mlp=mlp, dropout=dropout, norm_eps=norm_eps)
        self.pooled_head = nn.Linear(dim, embed_dim, bias=False)
        self.token_head = nn.Linear(dim, embed_dim, bias=False)
        initialise(self, num_layers=max(num_layers, 1))

    def forward(self, ids: Tensor, lengths: Tensor) -> TextTowerOutput:
        """ids (B, T) padded, lengths (B). The pooled vector is the mean of the real tokens."""
        T = ids.shape[1]
        if self.max_length < T:
            raise ValueError(f"text tower: a caption of {T} tokens, at most {self.max_length} (raise max_length)")
        positions = torch.arange(T, device=ids.device)
        keep = positions < lengths[:, None]
        x = self.transformer(self.embedding(ids), AttentionContext(self.rope(positions), PaddingMask(keep))).hidden
        mean = (x * keep[..., None]).sum(dim=1) / lengths[:, None].clamp(min=1)
        return TextTowerOutput(pooled=self.pooled_head(mean), tokens=self.token_head(x), keep=keep)
