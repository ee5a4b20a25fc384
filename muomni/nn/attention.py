"""Grouped-query attention over torch's fused kernel.

Legend: B batch, T new tokens, S all tokens (cached and new), D width, H query heads, G key-value heads, K head width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.cache import KVCache
from muomni.nn.norm import RMSNorm
from muomni.nn.packed import PackedRows, Runs, attend_runs, causal_mask, has_flash
from muomni.nn.rope import rotate
from muomni.nn.short_conv import Mixes, ShortConv

CPU_HAS_AMX = torch.cpu._is_amx_tile_supported()


class AttentionMask(NamedTuple):
    """What the attention of all blocks of a forward looks through, made once: `mask` (B, 1, T, S) bool, None where none is
    needed, and the kernel's own causal flag; or `runs` for the kernel without a mask. `mixes`: of the short convolution. `reach`:
    how many of a cache's last tokens are looked at, None for all."""

    mask: Tensor | None
    is_causal: bool
    runs: Runs | None = None
    mixes: Mixes | None = None
    reach: int | None = None


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
        keep: Tensor | PackedRows | None = None,
        apart: Tensor | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
        mask: AttentionMask | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D).

        rope: cos and sin of the new tokens. keep: (B, T) bool, True for real tokens (without a cache; a cache brings its
        own); causal attention also takes samples packed into a row (`PackedRows`), or their integers alone: a token sees
        those of its own number; or (B, T, T) bool, who may see whom (`packed.visible`), the window included. A masked-out query
        row may hold anything, never NaN. apart: see `ShortConv`. mask: `prepare(x, keep=keep, apart=apart, cache=cache)`,
        where it was called for several blocks at once.
        """
        B, T, _ = x.shape
        H, G, K = self.heads, self.kv_heads, self.head_dim
        if mask is None:
            mask = self.prepare(x, keep=keep, apart=apart, cache=cache)
        if self.short_conv is not None:
            x = self.short_conv(x, apart=apart, cache=cache, layer=layer, mixes=mask.mixes)
        query, key, value = self.qkv(x).view(B, T, H + 2 * G, K).transpose(1, 2).split((H, G, G), dim=1)
        query, key = self.query_norm(query), self.key_norm(key)
        if rope is not None:
            query, key = rotate(query, *rope), rotate(key, *rope)
        if cache is not None:
            key, value = cache.append(layer, key, value)
            if mask.reach is not None:
                key, value = key[:, :, -mask.reach :], value[:, :, -mask.reach :]
        key, value = key.to(query.dtype), value.to(query.dtype)
        if mask.runs is not None:
            mixed = attend_runs(query, key, value, mask.runs, window=self.window)
        else:
            mixed = attend(query, key, value, mask=mask.mask, is_causal=mask.is_causal)
        return self.out(mixed.transpose(1, 2).reshape(B, T, H * K))

    def prepare(
        self, x: Tensor, *, keep: Tensor | PackedRows | None, apart: Tensor | None, cache: KVCache | None = None
    ) -> AttentionMask:
        """What a forward looks through, for all blocks of this shape: x (B, T, D), keep, apart and cache as there."""
        T, mixes = x.shape[1], None
        if self.short_conv is not None:
            mixes = self.short_conv.mixes(keep if cache is None else None, apart=apart)
        if cache is not None:
            total, held, reach = cache.length_with(T), cache.keep if cache.left_padded else None, None
            held = None if held is None else held[:, :total]
            if self.window is not None and (held is None or held.dim() == 2):  # what no new token sees is not read
                reach = self.window + T - 1
                total, held = min(total, reach), None if held is None else held[:, -reach:]
            return AttentionMask(*self._mask(T, total, held, x.device), mixes=mixes, reach=reach)
        if not isinstance(keep, PackedRows):
            return AttentionMask(*self._mask(T, T, keep, x.device), mixes=mixes)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if keep.runs is not None and has_flash(x.device, dtype, self.head_dim):
            return AttentionMask(None, False, runs=keep.runs, mixes=mixes)
        return AttentionMask(keep.mask(window=self.window), False, mixes=mixes)

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
