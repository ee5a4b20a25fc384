"""Decode steps of one row, a block at a time by an operator of `native/` in place of some forty calls of torch's.

A small network spends such a step between its kernels: a frame of the Talker took twenty times as long as reading its weights.

Shapes: B rows, T tokens, D width, V vocabulary.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from muomni.inference.decoding.native import library
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.nn.attention import Attention
from muomni.nn.cache import KVCache
from muomni.nn.context import NO_CONTEXT, AttentionContext
from muomni.nn.mlp import SwiGLU
from muomni.nn.norm import RMSNorm
from muomni.nn.transformer import Block, Transformer, TransformerOutput

Model = TypeVar("Model", Talker, Thinker)


def is_plain(block: nn.Module) -> bool:
    """Whether the operator computes what this block does: RMSNorm, attention without biases and windows, of heads with RMSNorm or
    without norms, after a short convolution or none, and SwiGLU, in float32 on a CPU."""
    if type(block) is not Block or type(block.attention) is not Attention or type(block.mlp) is not SwiGLU:
        return False
    attention, head_norms = block.attention, {type(block.attention.query_norm), type(block.attention.key_norm)}
    return (
        type(block.attention_norm) is type(block.mlp_norm) is RMSNorm
        and type(block.attention_output_norm) is type(block.mlp_output_norm) is nn.Identity
        and (head_norms == {RMSNorm} or head_norms == {nn.Identity})
        and attention.query_scale is None
        and attention.window is None
        and all(_is_plain_linear(layer) for layer in _linears(block))
        and all(each.dtype == torch.float32 and each.device.type == "cpu" for each in block.parameters())
    )


def _is_plain_linear(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear and layer.bias is None


def _linears(block: Any) -> tuple[nn.Module, ...]:
    return block.attention.qkv, block.attention.out, block.mlp.gate_up, block.mlp.down


class _Absent:
    """In place of a layer that a block has not."""

    weight, eps = torch.empty(0), 0.0


class RowTransformer(nn.Module):
    """A transformer of plain blocks, whose steps of one token of one row are the operator's where it is at hand, and all others
    the transformer's own. Its weights are those of the transformer."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.whole = transformer
        blocks: Any = transformer.blocks
        assert all(is_plain(block) for block in blocks)
        #: Of each block, in the operator's order. Weights are looked up at each step: a model may be moved.
        self.layers: list[list[Any]] = []
        self.eps: list[tuple[float, float]] = []  # of each block's norms, and of its heads'
        for block in blocks:
            attention, (qkv, out, gate_up, down) = block.attention, _linears(block)
            has_norms, conv = type(attention.query_norm) is RMSNorm, attention.short_conv
            head_norms = [attention.query_norm, attention.key_norm] if has_norms else [_Absent, _Absent]
            row = [block.attention_norm, qkv, out, block.mlp_norm, gate_up, down]
            self.layers.append([*row, *head_norms, _Absent if conv is None else conv])
            self.eps.append((block.mlp_norm.eps, head_norms[0].eps))
        self.mixes_inputs = any(block.attention.short_conv is not None for block in blocks)

    def forward(self, x: Tensor, context: AttentionContext = NO_CONTEXT) -> TransformerOutput:
        """x (B, T, D) -> the same shape, as `Transformer.forward`."""
        cache = context.cache
        if x.shape[:2] != (1, 1) or not isinstance(cache, KVCache) or not self._fits(x, context, cache):
            return self.whole(x, context)
        assert context.rope is not None
        cos, sin = context.rope
        keys, values = cache.keys.unbind(), cache.values.unbind()
        inputs = cache.inputs.unbind() if self.mixes_inputs else [_Absent.weight] * len(keys)
        for layer, (modules, eps) in enumerate(zip(self.layers, self.eps, strict=True)):
            weights, slots = [module.weight for module in modules], (keys[layer], values[layer], inputs[layer])
            x = torch.ops.muomni.row_block(x, *weights, cos, sin, *slots, cache.position, *eps)
        cache.advance(1)
        return TransformerOutput(self.whole.norm(x), [])

    def _fits(self, x: Tensor, context: AttentionContext, cache: KVCache) -> bool:
        """Whether the row is where the operator computes, has rotary positions, nothing to mask, and a slot for the token."""
        if context.rope is None or context.conv_skip is not None or cache.left_padded or cache.remaining <= 0:
            return False
        return cache.keys.dtype == torch.float32 and by_operator(x)


def by_operator(x: Tensor) -> bool:
    """Whether an operator computes of x what torch's calls would: numbers in float32 on a CPU, without gradients."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    return not torch.is_grad_enabled() and library.ready()


class RowLinear(nn.Module):
    """A linear layer without bias, whose products of one row are the operator's where it is at hand (`weight_only.py`)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., V)."""
        if x.numel() == x.shape[-1] and by_operator(x):
            y: Tensor = torch.ops.muomni.float_linear(x.contiguous(), self.linear.weight)
            return y
        whole: Tensor = self.linear(x)
        return whole


def begin_with(model: Model) -> Model:
    """By what a generation that begins now is computed, to its end: a model `with_row_blocks`, or where its operators are still
    being built the model without them. Else they would take over within a sentence, and its last bits would be no path's own."""
    plain: Model | None = vars(model).get("without_operators")
    return model if plain is None or by_operator(next(model.parameters())) else plain


def with_row_blocks(model: Model) -> Model:
    """The model, which shares its weights, with a `RowTransformer`, and a Thinker also with a `RowLinear` as its head; the model
    itself where its blocks are others."""
    if not all(is_plain(block) for block in model.transformer.blocks):
        return model
    twin = copy.copy(model)
    twin.__dict__["without_operators"] = model  # not a module of its own
    twin._modules = dict(model._modules)
    twin._modules["transformer"] = RowTransformer(model.transformer)
    if isinstance(model, Thinker) and _is_plain_linear(model.head):
        twin._modules["head"] = RowLinear(model.head)
    return twin
