"""The Thinker: a decoder-only language model over one sequence of image, audio and text tokens.

Pre-RMSNorm blocks with rotary causal attention and SwiGLU, final norm, linear head (Llama's shape, Touvron et al. 2023,
arXiv:2302.13971).

Legend: B batch, T time, D width, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from muomni.models.outputs import ThinkerOutput
from muomni.models.registry import register
from muomni.nn.attention import Attention
from muomni.nn.cache import KVCache
from muomni.nn.context import AttentionContext
from muomni.nn.initialise import initialise
from muomni.nn.masks import Mask, SegmentMask
from muomni.nn.mlp import GeluMLP, SwiGLU
from muomni.nn.moe import MoE, MoEBlock
from muomni.nn.rope import Rope
from muomni.nn.transformer import Block, TransformerOutput, stack
from muomni.special_tokens import IMAGE

MLPS = {"swiglu": SwiGLU, "gelu": GeluMLP}


def _mlp(name: str, *, hidden: int, num_experts: int, per_token: int) -> Callable[[int], nn.Module]:
    """Width -> one MLP, or a mixture of `num_experts`. Raises ValueError for an unknown name."""
    if name not in MLPS or (num_experts and name != "swiglu"):
        known = "swiglu, which experts are" if num_experts else " or ".join(MLPS)
        raise ValueError(f"thinker: mlp must be {known}, not {name}")
    if num_experts:
        return partial(MoE, hidden=hidden, num_experts=num_experts, per_token=per_token)
    return partial(MLPS[name], hidden=hidden)


@register("thinker")
class Thinker(nn.Module):
    """Decoder-only LM.

    Args:
        vocab_size: V. dim: D. num_layers, num_heads, num_kv_heads, ff_dim: shape of the blocks.
        max_length: longest sequence, in tokens.
        mlp: swiglu, or gelu (two layers with biases).
        num_experts: of a mixture of SwiGLU experts of that ff_dim each, of which a token uses experts_per_token; 0: a single
            MLP.
        rope_theta, rope_scaling, norm_eps, qk_norm, window, short_conv, tied, dropout: see the layers.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        ff_dim: int,
        max_length: int,
        mlp: str = "swiglu",
        num_experts: int = 0,
        experts_per_token: int = 2,
        rope_theta: float = 10000.0,
        rope_scaling: float = 1.0,
        norm_eps: float = 1e-5,
        qk_norm: bool = False,
        window: int | None = None,
        short_conv: int = 0,
        tied: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.max_length = vocab_size, dim, max_length
        self.num_layers, self.num_kv_heads, self.head_dim = num_layers, num_kv_heads, dim // num_heads
        self.window, self.short_conv = window, short_conv
        self.num_experts, self.experts_per_token = num_experts, experts_per_token
        self.embedding = nn.Embedding(vocab_size, dim)
        self.rope = Rope(self.head_dim, theta=rope_theta, scaling=rope_scaling)

        options: dict[str, Any] = {"qk_norm": qk_norm, "window": window, "short_conv": short_conv}
        attention = partial(Attention, heads=num_heads, kv_heads=num_kv_heads, causal=True, **options)
        layers = _mlp(mlp, hidden=ff_dim, num_experts=num_experts, per_token=experts_per_token)
        block = MoEBlock if num_experts else Block
        self.transformer = stack(
            num_layers, dim, attention=attention, mlp=layers, dropout=dropout, norm_eps=norm_eps, block=block
        )
        self.head = nn.Linear(dim, vocab_size, bias=False)
        # A tied embedding is the head too, and must start small for even logits.
        initialise(self, num_layers=num_layers, gain=1.0, embedding_std=None if tied else 0.5)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        ids: Tensor | None = None,
        embeddings: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        last_only: bool = False,
    ) -> ThinkerOutput:
        """Read ids (B, T), or embeddings (B, T, D) in their place; with both, the ids say which tokens are an image's.

        positions: (T) or (B, T); default: those of the mask, or from the cache's position on. mask: None without padding; not
        with a cache, which has its own. cache: the tokens follow what it holds; its position moves on. last_only: logits of the
        last token alone.
        """
        if embeddings is None:
            if ids is None:
                raise ValueError("Thinker.forward takes ids or embeddings")
            ids, embeddings = None, self.embedding(ids)
        hidden, router_logits, _ = self.forward_hidden(embeddings, ids=ids, positions=positions, mask=mask, cache=cache)
        if last_only:
            hidden = hidden[:, -1:]
        return ThinkerOutput(logits=self.head(hidden), hidden=hidden, router_logits=router_logits)

    def forward_hidden(
        self,
        x: Tensor,
        *,
        ids: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Mask | None = None,
        cache: KVCache | None = None,
    ) -> TransformerOutput:
        """Embeddings x (B, T, D) -> hidden states: `forward` without its head, for losses that fall on few tokens. ids: (B, T),
        where some may be an image's."""
        if positions is None and isinstance(mask, SegmentMask):
            positions = mask.positions
        if positions is None:
            start = 0 if cache is None else cache.position
            positions = torch.arange(start, start + x.shape[1], device=x.device)
        conv_skip = None if ids is None or not self.short_conv else ids == IMAGE
        return self.transformer(x, AttentionContext(self.rope(positions), mask, conv_skip, cache))

    def new_cache(self, batch_size: int, capacity: int | None = None, *, dtype: torch.dtype | None = None) -> KVCache:
        """An empty cache that fits this model, on its device; capacity defaults to `max_length`."""
        weight = self.embedding.weight
        return KVCache(
            num_layers=self.num_layers,
            batch_size=batch_size,
            num_kv_heads=self.num_kv_heads,
            capacity=capacity or self.max_length,
            head_dim=self.head_dim,
            dtype=dtype or weight.dtype,
            device=weight.device,
            conv_dim=self.dim if self.short_conv else 0,
        )
