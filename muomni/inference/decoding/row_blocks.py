"""Decode steps of one row, a block at a time by an operator of `native/` in place of some forty calls of torch's.

A small network spends such a step between its kernels: a frame of the Talker took twenty times as long as reading its weights.

Shapes: B rows, T tokens, D width.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from muomni.inference.decoding.native import library
from muomni.models.talker import Talker
from muomni.nn.attention import Attention
from muomni.nn.cache import KVCache
from muomni.nn.context import NO_CONTEXT, AttentionContext
from muomni.nn.mlp import SwiGLU
from muomni.nn.norm import RMSNorm
from muomni.nn.transformer import Block, Transformer, TransformerOutput


def is_plain(block: nn.Module) -> bool:
    """Whether the operator computes what this block does: nothing but RMSNorm, attention without biases and norms, and SwiGLU, in
    float32 on a CPU."""
    if type(block) is not Block or type(block.attention) is not Attention or type(block.mlp) is not SwiGLU:
        return False
    attention, norms = block.attention, (block.attention_norm, block.mlp_norm)
    absent = (attention.query_norm, attention.key_norm, block.attention_output_norm, block.mlp_output_norm)
    return (
        all(type(norm) is RMSNorm for norm in norms)
        and all(type(norm) is nn.Identity for norm in absent)
        and attention.query_scale is None
        and attention.window is None
        and attention.short_conv is None
        and all(type(layer) is nn.Linear and layer.bias is None for layer in _linears(block))
        and all(each.dtype == torch.float32 and each.device.type == "cpu" for each in block.parameters())
    )


def _linears(block: Any) -> tuple[nn.Module, ...]:
    return block.attention.qkv, block.attention.out, block.mlp.gate_up, block.mlp.down


class RowTransformer(nn.Module):
    """A transformer of plain blocks, whose steps of one token of one row are the operator's where it is at hand, and all others
    the transformer's own. Its weights are those of the transformer."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.whole = transformer
        blocks: Any = transformer.blocks
        assert all(is_plain(block) for block in blocks)
        # In the operator's order. Their weights are looked up at each step: a model may be moved.
        self.layers: list[list[Any]] = [
            [block.attention_norm, *_linears(block)[:2], block.mlp_norm, *_linears(block)[2:]] for block in blocks
        ]
        self.eps: list[float] = [block.mlp_norm.eps for block in blocks]

    def forward(self, x: Tensor, context: AttentionContext = NO_CONTEXT) -> TransformerOutput:
        """x (B, T, D) -> the same shape, as `Transformer.forward`."""
        cache = context.cache
        if x.shape[:2] != (1, 1) or not isinstance(cache, KVCache) or not self._fits(x, cache):
            return self.whole(x, context)
        assert context.rope is not None
        cos, sin = context.rope
        keys, values, position = cache.keys.unbind(), cache.values.unbind(), cache.position
        for layer, (modules, eps) in enumerate(zip(self.layers, self.eps, strict=True)):
            weights = [module.weight for module in modules]
            x = torch.ops.muomni.row_block(x, *weights, cos, sin, keys[layer], values[layer], position, eps)
        cache.advance(1)
        return TransformerOutput(self.whole.norm(x), [])

    def _fits(self, x: Tensor, cache: KVCache) -> bool:
        """Whether the row is where the operator computes, has nothing to mask, and a slot for the token."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return False
        return not cache.left_padded and cache.remaining > 0 and not torch.is_grad_enabled() and library.ready()


def with_row_blocks(talker: Talker) -> Talker:
    """The Talker, which shares its weights, with a `RowTransformer`; itself where its blocks are others."""
    if not all(is_plain(block) for block in talker.transformer.blocks):
        return talker
    twin = copy.copy(talker)
    twin._modules = dict(talker._modules)
    twin._modules["transformer"] = RowTransformer(talker.transformer)
    return twin
