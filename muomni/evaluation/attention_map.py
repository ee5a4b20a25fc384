"""Attention weights of one layer, computed again from its queries and keys: the fused kernel does not return them.

Legend: T tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muomni.nn.attention import Attention


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
    qkv = seen["qkv"][:1].float()
    T, rope = qkv.shape[1], seen["context"].rope
    if rope is not None:
        rope = tuple(each[:1] if each.dim() > 2 else each for each in rope)
    query, key, _ = layer.split_heads(qkv, rope)
    scores = query @ key.repeat_interleave(layer.heads // layer.kv_heads, dim=1).mT / layer.head_dim**0.5
    if layer.causal:
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1), float("-inf"))
    return scores.softmax(-1)[0].mean(0)
