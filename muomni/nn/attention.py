"""Grouped-query attention over torch's fused kernel.

Legend: B batch, T new tokens, S all tokens (cached and new), D width, H query heads, G key-value heads, K head width.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.block_attention import attend_by_blocks, prefers_blocks
from muomni.nn.context import NO_CONTEXT, AttentionContext, KernelMask
from muomni.nn.masks import SegmentMask, causal_mask
from muomni.nn.packed import attend_runs, has_flash
from muomni.nn.rope import rotate
from muomni.nn.short_conv import ShortConv

CPU_HAS_AMX = torch.cpu._is_amx_tile_supported()


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, is_causal: bool) -> Tensor:
    """torch's fused attention of query (B, H, T, K) to key and value (B, G, S, K); mask: (B, 1, T, S) bool or None.

    On a CPU without AMX half precision is computed in float32: the kernel takes 2 to 20 times as long in bfloat16 there.
    """
    if query.device.type == "cpu" and not CPU_HAS_AMX and query.dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", enabled=False):  # which would cast them back
            return attend(query.float(), key.float(), value.float(), mask=mask, is_causal=is_causal).to(query.dtype)
    if query.shape[2] == 1 and query.device.type == "cpu" and torch.compiler.is_compiling():
        return _attend_one(query, key, value, mask)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=query.shape[1] != key.shape[1]
    )


def _attend_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The same for one query a row, T = 1, as sums that compile to loops over the cache where it is: the kernel copies keys and
    values first, which takes longer than the arithmetic."""
    B, G, _, K = key.shape
    query = query.view(B, G, -1, 1, K) * K**-0.5  # B G H/G 1 K
    scores = (query * key[:, :, None]).sum(-1)  # B G H/G S
    if mask is not None:
        scores = scores.masked_fill(~mask[:, :, None, 0], float("-inf"))
    weights = scores.softmax(-1)[..., None]
    return (weights * value[:, :, None]).sum(-2).view(B, -1, 1, K)


class Attention(nn.Module):
    """Multi-head attention with fewer key-value heads (GQA, Ainslie et al. 2023, arXiv:2305.13245).

    Args:
        dim: width D. heads: H; kv_heads: G, a divisor of H. head_dim: K, None is D / H.
        causal: a token attends to itself and those before it.
        bias: of the projection of queries, keys and values; out_bias: of the output's, None is the same.
        qk_norm: a norm on every query and key head (Dehghani et al. 2023, arXiv:2302.05442), of this width; None is none.
        scale: of queries by keys, None is K ** -0.5.
        window: a causal token attends to at most this many tokens, itself included; None is all.
        short_conv: tokens that a causal convolution mixes before the projections; 0 is none.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kv_heads: int,
        causal: bool,
        head_dim: int | None = None,
        bias: bool = False,
        out_bias: bool | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
        scale: float | None = None,
        window: int | None = None,
        short_conv: int = 0,
    ) -> None:
        super().__init__()
        if (head_dim is None and dim % heads) or heads % kv_heads:
            raise ValueError(f"attention: width {dim} / heads {heads} / kv_heads {kv_heads} do not divide each other")
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim or dim // heads
        self.causal, self.window = causal, window
        self.query_scale = (
            None if scale is None else scale * self.head_dim**0.5
        )  # before kernels that scale by K ** -0.5
        self.short_conv = ShortConv(dim, kernel=short_conv) if short_conv else None
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(heads * self.head_dim, dim, bias=bias if out_bias is None else out_bias)
        self.query_norm = nn.Identity() if qk_norm is None else qk_norm(self.head_dim)
        self.key_norm = nn.Identity() if qk_norm is None else qk_norm(self.head_dim)

    def forward(self, x: Tensor, context: AttentionContext = NO_CONTEXT, *, layer: int = 0) -> Tensor:
        """x (B, T, D) -> (B, T, D). The output at a padding token may be anything, but never NaN. layer: of the cache."""
        B, T, _ = x.shape
        if context.kernel is None:
            context = self.prepare(x, context)
        kernel, cache = context.kernel, context.cache
        assert kernel is not None
        if self.short_conv is not None:
            x = self.short_conv(x, context, layer=layer)
        query, key, value = self.split_heads(self.qkv(x), context.rope)
        if cache is not None:
            key, value = cache.append(layer, key, value)
            if kernel.reach is not None:
                key, value = key[:, :, -kernel.reach :], value[:, :, -kernel.reach :]
        key, value = key.to(query.dtype), value.to(query.dtype)
        if kernel.runs is not None:
            mixed = attend_runs(query, key, value, kernel.runs, window=self.window)
        elif prefers_blocks(query, key):
            mixed = attend_by_blocks(query, key, value, mask=kernel.tensor, causal=self.causal)
        else:
            mixed = attend(query, key, value, mask=kernel.tensor, is_causal=kernel.is_causal)
        return self.out(mixed.transpose(1, 2).reshape(B, T, self.heads * self.head_dim))

    def split_heads(self, qkv: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """What `qkv` projects (B, T, (H + 2 G) K) -> query (B, H, T, K), key and value (B, G, T, K), as the kernel takes them.
        rope: cos and sin."""
        B, T, _ = qkv.shape
        H, G, K = self.heads, self.kv_heads, self.head_dim
        query, key, value = qkv.view(B, T, H + 2 * G, K).transpose(1, 2).split((H, G, G), dim=1)
        query, key = self.query_norm(query), self.key_norm(key)
        if self.query_scale is not None:
            query = query * self.query_scale
        if rope is not None:
            query, key = rotate(query, *rope), rotate(key, *rope)
        return query, key, value

    def prepare(self, x: Tensor, context: AttentionContext) -> AttentionContext:
        """The context with its mask in the cheapest form for the kernel, and the rotary positions of this attention, for all
        blocks of its window; x (B, T, D)."""
        if self.window is not None and context.local_rope is not None:
            context = replace(context, rope=context.local_rope)
        T, cache, mask, reach = x.shape[1], context.cache, context.mask, None
        assert cache is None or mask is None, "a cache has its own mask"
        taps = None if self.short_conv is None else self.short_conv.tap_masks(context, length=T)
        if cache is not None:
            mask, reach = cache.mask_for(T, window=self.window)
        if mask is None:
            total = T if cache is None else cache.position + T
            tensor, is_causal = self._without_mask(T, total if reach is None else min(total, reach), x.device)
            return replace(context, kernel=KernelMask(tensor, is_causal, reach=reach, tap_masks=taps))
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype  # of the projections
        if isinstance(mask, SegmentMask) and mask.runs is not None and has_flash(x.device, dtype, self.head_dim):
            return replace(context, kernel=KernelMask(None, False, runs=mask.runs, tap_masks=taps))
        tensor = mask.dense(T, causal=self.causal, window=self.window)
        return replace(context, kernel=KernelMask(tensor, False, reach=reach, tap_masks=taps))

    def _without_mask(self, T: int, S: int, device: torch.device) -> tuple[Tensor | None, bool]:
        """Where every token is real: no mask, the kernel's causal flag, or a (1, 1, T, S) boolean."""
        if not self.causal or (T == 1 and (self.window is None or self.window >= S)):
            return None, False
        if self.window is None and T == S:
            return None, True
        return causal_mask(T, S, window=self.window, device=device)[None, None], False
