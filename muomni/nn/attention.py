"""Grouped-query attention over torch's fused kernel.

Legend: B batch, T new tokens, S all tokens (cached and new), D width, H query heads, G key-value heads, K head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.cache import KVCache
from muomni.nn.norm import RMSNorm
from muomni.nn.rope import rotate
from muomni.nn.short_conv import ShortConv

CPU_HAS_AMX = torch.cpu._is_amx_tile_supported()


def causal_mask(length: int, total: int, *, window: int | None, device: torch.device) -> Tensor:
    """(length, total) bool, True where the i-th of the last `length` of `total` tokens may look (window: itself and
    the `window - 1` before it)."""
    query = torch.arange(total - length, total, device=device)[:, None]
    key = torch.arange(total, device=device)[None]
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def visible(segments: Tensor, parts: Tensor) -> Tensor:
    """Who may see whom in packed rows, (B, T, T) bool: a token sees those of its own segment (B, T) that are of its own
    part (B, T) or of part 0, which all parts of a segment share: questions about one picture, each as if it stood alone."""
    same = segments[:, :, None] == segments[:, None]
    return same & ((parts[:, :, None] == parts[:, None]) | (parts[:, None] == 0))


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, is_causal: bool) -> Tensor:
    """torch's fused attention of query (B, H, T, K) to key and value (B, G, S, K); mask: (B, 1, T, S) bool or None.

    On a CPU without AMX half precision is computed in float32: the kernel takes 2 to 20 times as long in bfloat16 there.
    """
    if query.device.type == "cpu" and not CPU_HAS_AMX and query.dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", enabled=False):  # which would cast them back
            return attend(query.float(), key.float(), value.float(), mask=mask, is_causal=is_causal).to(query.dtype)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=query.shape[1] != key.shape[1]
    )


class Attention(nn.Module):
    """Multi-head attention with fewer key-value heads (GQA, Ainslie et al. 2023, arXiv:2305.13245).

    Args:
        dim: width D. heads: H; kv_heads: G, a divisor of H.
        causal: a token sees itself and what stands before it.
        bias: biases on both projections.
        qk_norm: RMSNorm on every query and key head (Dehghani et al. 2023, arXiv:2302.05442).
        window: a causal token sees at most this many tokens, itself included; None is all.
        short_conv: tokens that a causal convolution mixes before the projections; 0 is none.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kv_heads: int,
        causal: bool,
        bias: bool = False,
        qk_norm: bool = False,
        window: int | None = None,
        short_conv: int = 0,
    ) -> None:
        super().__init__()
        if dim % heads or heads % kv_heads:
            raise ValueError(f"attention: width {dim} / heads {heads} / kv_heads {kv_heads} do not divide each other")
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.causal, self.window = causal, window
        self.short_conv = ShortConv(dim, kernel=short_conv) if short_conv else None
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)
        self.query_norm = RMSNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.key_norm = RMSNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        *,
        rope: tuple[Tensor, Tensor] | None = None,
        keep: Tensor | None = None,
        apart: Tensor | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D).

        rope: cos and sin of the new tokens. keep: (B, T) bool, True for real tokens (without a cache; a cache brings its
        own); causal attention also takes integers: a token sees those of its own number alone, for samples packed into a
        row; or (B, T, T) bool, who may see whom (`visible`), the window included. A masked-out query row may hold
        anything, never NaN. apart: see `ShortConv`.
        """
        B, T, _ = x.shape
        H, G, K = self.heads, self.kv_heads, self.head_dim
        if self.short_conv is not None:
            x = self.short_conv(x, keep=keep, apart=apart, cache=cache, layer=layer)
        query, key, value = self.qkv(x).view(B, T, H + 2 * G, K).transpose(1, 2).split((H, G, G), dim=1)
        query, key = self.query_norm(query), self.key_norm(key)
        if rope is not None:
            query, key = rotate(query, *rope), rotate(key, *rope)
        if cache is not None:
            key, value = cache.append(layer, key, value)
            keep = cache.keep[:, : key.shape[2]] if cache.ragged else None
            if self.window is not None and (keep is None or keep.dim() == 2):  # what no new token sees is not read
                reach = self.window + T - 1
                key, value, keep = key[:, :, -reach:], value[:, :, -reach:], None if keep is None else keep[:, -reach:]
        mask, is_causal = self._mask(T, key.shape[2], keep, x.device)
        mixed = attend(query, key.to(query.dtype), value.to(query.dtype), mask=mask, is_causal=is_causal)
        return self.out(mixed.transpose(1, 2).reshape(B, T, H * K))

    def _mask(self, T: int, S: int, keep: Tensor | None, device: torch.device) -> tuple[Tensor | None, bool]:
        """The cheapest mask that says the same: none, the kernel's causal flag, or a (B, 1, T, S) boolean."""
        if not self.causal:
            return (None if keep is None else keep[:, None, None]), False
        if keep is not None and keep.dim() == 3:
            return causal_mask(T, S, window=None, device=device)[None, None] & keep[:, None], False
        sees_all = T == 1 and (self.window is None or self.window >= S)  # a single new token
        if keep is None:
            if sees_all:
                return None, False
            if self.window is None and T == S:
                return None, True
        elif sees_all:
            return keep[:, None, -1:, None] == keep[:, None, None], False
        mask = causal_mask(T, S, window=self.window, device=device)[None, None]
        if keep is not None:
            # Padding sees padding, itself at least: a softmax over nothing would be NaN.
            mask = mask & (keep[:, None, S - T :, None] == keep[:, None, None])
        return mask, False
