"""What layers cost, by formula: operations of their matrix products, convolutions and attention, a multiply-add counted as two.

The backward pass of a product takes as many for the gradient of its input and as many for that of its weights, each if it is
needed. Attention counts all pairs of tokens of a row, masked or not, and what activation checkpointing computes twice counts once
(as Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B, define the FLOPs of a model). Norms, activations, rotary positions,
Fourier transforms and the optimizer are left out.

Legend: B batch, T time, D width, H heads, K head width.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from muomni.nn.attention import Attention
from muomni.nn.conv import ConvBlock, ConvNeXtBlock
from muomni.nn.mlp import GeluMLP, SwiGLU
from muomni.nn.moe import MoE
from muomni.nn.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of the forward and of the backward pass; activations: numbers that products return, which the backward pass
    mostly keeps."""

    forward: int = 0
    backward: int = 0
    activations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward + other.forward, self.backward + other.backward, self.activations + other.activations)

    def times(self, count: int) -> "Cost":
        """Of so many alike."""
        return Cost(count * self.forward, count * self.backward, count * self.activations)

    def frozen(self) -> "Cost":
        """Without gradients."""
        return Cost(forward=self.forward)

    @property
    def flops(self) -> int:
        """Of a training step."""
        return self.forward + self.backward


def product(rows: int, inner: int, columns: int, *, gradients: int = 2) -> Cost:
    """(rows, inner) @ (inner, columns). gradients: of how many of the two factors they are needed."""
    forward = 2 * rows * inner * columns
    return Cost(forward, gradients * forward, rows * columns if gradients else 0)


def learns(module: nn.Module) -> bool:
    """Whether any of its parameters does."""
    return any(parameter.requires_grad for parameter in module.parameters(recurse=True))


def linear(layer: nn.Linear, rows: int, *, input_grad: bool = True) -> Cost:
    """A linear layer on so many rows. input_grad: whether what it reads was computed from trained weights."""
    cost = product(rows, layer.in_features, layer.out_features, gradients=layer.weight.requires_grad + input_grad)
    rank = getattr(layer, "rank", 0)
    if rank:  # of an adapter (lora.py)
        cost += product(rows, layer.in_features, rank, gradients=1 + input_grad) + product(
            rows, rank, layer.out_features
        )
    return cost


def conv(layer: nn.Conv1d | nn.Conv2d, batch: int, *sizes: int, input_grad: bool = True) -> tuple[Cost, list[int]]:
    """A convolution of (batch, channels, *sizes) -> its cost, and the sizes of its output."""
    padding: Any = layer.padding  # numbers: no layer here gives it as a word
    spans = zip(sizes, layer.kernel_size, layer.stride, padding, strict=True)
    out = [(size + 2 * pad - kernel) // stride + 1 for size, kernel, stride, pad in spans]
    inner = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    gradients = learns(layer) + input_grad  # its weights may be a parametrization's
    return product(batch * math.prod(out), inner, layer.out_channels, gradients=gradients), out


def _mlp(layer: nn.Module, rows: int) -> Cost:
    if isinstance(layer, SwiGLU):
        return linear(layer.gate_up, rows) + linear(layer.down, rows)
    if isinstance(layer, GeluMLP):
        return linear(layer.up, rows) + linear(layer.down, rows)
    assert isinstance(layer, MoE), f"no formula for {type(layer).__name__}"
    experts, chosen = layer.experts, rows * layer.per_token
    gradients = experts.gate_up.requires_grad + 1
    _, double, dim = experts.gate_up.shape
    return (
        linear(layer.router, rows)
        + product(chosen, dim, double, gradients=gradients)
        + product(chosen, double // 2, dim, gradients=gradients)
    )


def attention(layer: Attention, batch: int, length: int) -> Cost:
    """Projections, and queries by keys by values of rows of `length` tokens."""
    rows, width = batch * length, layer.heads * layer.head_dim
    mixing = product(rows, length, width)  # values; queries by keys cost as much, and are not kept
    scores = Cost(mixing.forward, mixing.backward)
    return linear(layer.qkv, rows) + scores + mixing + linear(layer.out, rows)


def transformer(stack: Transformer, batch: int, length: int) -> Cost:
    """Blocks in a row, all of the same form."""
    if not len(stack.blocks):
        return Cost()
    block: nn.Module = stack.blocks[0]
    cost = attention(block.attention, batch, length) + _mlp(block.mlp, batch * length)  # type: ignore[arg-type]
    if isinstance(block, ConvBlock):
        cost += conv(block.conv.conv, batch, length)[0]
    return cost.times(len(stack.blocks))


def convnext(blocks: nn.ModuleList, batch: int, length: int) -> Cost:
    """ConvNeXt blocks in a row, all of the same form."""
    if not len(blocks):
        return Cost()
    block = blocks[0]
    assert isinstance(block, ConvNeXtBlock)
    return (conv(block.conv.conv, batch, length)[0] + _mlp(block.mlp, batch * length)).times(len(blocks))
