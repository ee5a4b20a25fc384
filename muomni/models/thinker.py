"""The Thinker: a decoder-only language model over one sequence of image, audio and text tokens.

Pre-RMSNorm blocks with rotary causal attention and SwiGLU, final norm, linear head (Llama's shape, Touvron et al. 2023,
arXiv:2302.13971). Further options are what other families have: muomni/interop/hf says which of them each needs.

Legend: B batch, T time, D width, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
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
from muomni.nn.mlp import MLPS
from muomni.nn.moe import MoE, MoEBlock
from muomni.nn.norm import NORMS, RMSNorm
from muomni.nn.rope import Rope
from muomni.nn.transformer import Block, TransformerOutput, stack
from muomni.special_tokens import IMAGE

POSITION_STD = 0.02  # of learned positions at first


class ScaledEmbedding(nn.Embedding):
    """An embedding whose vectors are multiplied by `scale` (Gemma: the root of their width)."""

    def __init__(self, num_embeddings: int, dim: int, *, scale: float) -> None:
        super().__init__(num_embeddings, dim)
        self.scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., D)."""
        return super().forward(ids) * self.scale


def _mlp(name: str, *, hidden: int, num_experts: int, **routing: Any) -> Callable[[int], nn.Module]:
    """Width -> one MLP, or a mixture of `num_experts`. Raises ValueError for an unknown name."""
    if name not in MLPS or (num_experts and name != "swiglu"):
        known = "swiglu, which experts are" if num_experts else " or ".join(MLPS)
        raise ValueError(f"thinker: mlp must be {known}, not {name}")
    if num_experts:
        return partial(MoE, hidden=hidden, num_experts=num_experts, **routing)
    return partial(MLPS[name], hidden=hidden)


def _embedding(vocab_size: int, dim: int, *, scale: float) -> nn.Embedding:
    return nn.Embedding(vocab_size, dim) if scale == 1 else ScaledEmbedding(vocab_size, dim, scale=scale)


def _norm(name: str) -> type[nn.Module]:
    """Raises ValueError for an unknown name."""
    if name not in NORMS:
        raise ValueError(f"thinker: norm must be {' or '.join(NORMS)}, not {name}")
    return NORMS[name]


def _head_norm(name: str, *, eps: float) -> Callable[[int], nn.Module]:
    """Width of a head -> its norm, which has no mean."""
    return partial(RMSNorm if name == "layer" else _norm(name), eps=eps)


def _windows(window: int | None, full_attention: Sequence[int], num_layers: int) -> list[int | None]:
    """Of each block. Raises ValueError where a block is named that there is not."""
    wrong = [layer for layer in full_attention if not 0 <= layer < num_layers]
    if wrong:
        raise ValueError(f"thinker: full_attention names block {wrong[0]}, of {num_layers} from 0 on")
    return [None if layer in full_attention else window for layer in range(num_layers)]


@register("thinker")
class Thinker(nn.Module):
    """Decoder-only LM.

    Args:
        vocab_size: V. dim: D. num_layers, num_heads, num_kv_heads, ff_dim: shape of the blocks. head_dim: of a head, None is
            dim / num_heads.
        max_length: longest sequence, in tokens.
        mlp: a name of `MLPS`; gelu and gelu_tanh are two layers with biases.
        num_experts: of a mixture of SwiGLU experts of that ff_dim each, of which a token uses experts_per_token, weighted as
            norm_topk_prob says (`MoE`); 0: a single MLP.
        rope_theta: None: no rotary positions. rope_scaling: a number, or a table (rope_scaling.py).
        window: of attention, but for the blocks `full_attention` (numbers from 0), which reach back to the first token.
            local_rope_theta: of attention with a window, unscaled; None: as the others.
        learned_positions: added to the embeddings (GPT-2), for `max_length` tokens.
        norm: a name of `NORMS`. output_norm: see `Block`. qk_norm_eps: of the norms of queries and keys, which are of `norm`.
        qkv_bias, out_bias, attention_scale: see `Attention`. embedding_scale: see `ScaledEmbedding`.
        norm_eps, qk_norm, short_conv, tied, dropout: see the layers.
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
        head_dim: int | None = None,
        mlp: str = "swiglu",
        num_experts: int = 0,
        experts_per_token: int = 2,
        norm_topk_prob: bool = True,
        rope_theta: float | None = 10000.0,
        rope_scaling: float | Mapping[str, Any] = 1.0,
        local_rope_theta: float | None = None,
        learned_positions: bool = False,
        norm: str = "rms",
        norm_eps: float = 1e-5,
        output_norm: bool = False,
        qk_norm: bool = False,
        qk_norm_eps: float = 1e-6,
        qkv_bias: bool = False,
        out_bias: bool = False,
        attention_scale: float | None = None,
        embedding_scale: float = 1.0,
        window: int | None = None,
        full_attention: Sequence[int] = (),
        short_conv: int = 0,
        tied: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.max_length = vocab_size, dim, max_length
        self.num_layers, self.num_kv_heads, self.head_dim = num_layers, num_kv_heads, head_dim or dim // num_heads
        self.short_conv, self.embedding_scale = short_conv, embedding_scale
        self.num_experts, self.experts_per_token = num_experts, experts_per_token
        self.embedding = _embedding(vocab_size, dim, scale=embedding_scale)
        self.position_embedding = nn.Embedding(max_length, dim) if learned_positions else None
        self.rope = None if rope_theta is None else Rope(self.head_dim, theta=rope_theta, scaling=rope_scaling)
        self.local_rope = None if local_rope_theta is None else Rope(self.head_dim, theta=local_rope_theta)
        attention = partial(
            Attention, heads=num_heads, kv_heads=num_kv_heads, head_dim=head_dim, causal=True, bias=qkv_bias, out_bias=out_bias,
            qk_norm=_head_norm(norm, eps=qk_norm_eps) if qk_norm else None, scale=attention_scale, short_conv=short_conv,
        )  # fmt: skip
        routing = {"per_token": experts_per_token, "norm_topk_prob": norm_topk_prob}
        self.transformer = stack(
            num_layers, dim, attention=attention, mlp=_mlp(mlp, hidden=ff_dim, num_experts=num_experts, **routing),
            dropout=dropout, norm=_norm(norm), final_norm=_norm(norm), norm_eps=norm_eps,
            block=partial(MoEBlock if num_experts else Block, output_norm=output_norm),
            windows=_windows(window, full_attention, num_layers),
        )  # fmt: skip
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self._draw(tied=tied)

    def _draw(self, *, tied: bool) -> None:
        """Initial weights. A tied embedding is the head too, and must start small for even logits."""
        initialise(self, num_layers=self.num_layers, gain=1.0, embedding_std=None if tied else 0.5)
        if self.position_embedding is not None:
            nn.init.normal_(self.position_embedding.weight, std=POSITION_STD)
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
            if positions is None and self.position_embedding is not None:  # which do not turn with their row
                positions = mask.positions_in_segment()
        if positions is None:
            start = 0 if cache is None else cache.position
            positions = torch.arange(start, start + x.shape[1], device=x.device)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions.clamp_max(self.max_length - 1))  # rows that end late go on unread
        conv_skip = None if ids is None or not self.short_conv else ids == IMAGE
        rope = None if self.rope is None else self.rope(positions)
        local = None if self.local_rope is None else self.local_rope(positions)
        return self.transformer(x, AttentionContext(rope, mask, conv_skip, cache, local_rope=local))

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
