"""Attention weights of one layer, computed again from its queries and keys: the fused kernel does not return them.

Legend: B batch, T tokens, H query heads, G key-value heads, K head width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muomni.nn.attention import Attention
from muomni.nn.rope import rotate


@torch.no_grad()
def attention_map(layer: Attention, forward: Callable[[], Any]) -> Tensor:
    """(T, T) of the first row, the mean over heads; rows are queries. forward: a call of the model that holds the layer, on
    unpadded rows without a cache."""
    seen: dict[str, Any] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, arguments: seen.update(context=arguments[1])),
        layer.qkv.register_forward_hook(lambda module, arguments, output: seen.update(qkv=output)),
    ]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    H, G, K = layer.heads, layer.kv_heads, layer.head_dim
    qkv = seen["qkv"][:1].float()
    T = qkv.shape[1]
    query, key, _ = qkv.view(1, T, H + 2 * G, K).transpose(1, 2).split((H, G, G), dim=1)
    query, key = layer.query_norm(query), layer.key_norm(key)
    if seen["context"].rope is not None:
        cos, sin = (each[:1] if each.dim() > 2 else each for each in seen["context"].rope)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    scores = query @ key.repeat_interleave(H // G, dim=1).mT / K**0.5
    if layer.causal:
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1), float("-inf"))
    return scores.softmax(-1)[0].mean(0)
