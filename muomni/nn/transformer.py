"""The pre-norm residual block and a stack of them: every network of muomni is made of these.

Legend: B batch, T time, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from muomni.nn.cache import KVCache
from muomni.nn.packed import PackedRows


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). The parts come from outside: the choice is theirs."""

    def __init__(self, *, attention: nn.Module, mlp: nn.Module, norm: Callable[[], nn.Module], dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = norm(), norm()
        self.attention, self.mlp = attention, mlp
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        *,
        rope: tuple[Tensor, Tensor] | None = None,
        keep: Tensor | PackedRows | None = None,
        apart: Tensor | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
        routing: list[Tensor] | None = None,
        **how: Any,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); the options go to the attention, `routing` to a mixture of experts (moe.py)."""
        mixed = self.attention(
            self.attention_norm(x), rope=rope, keep=keep, apart=apart, cache=cache, layer=layer, **how
        )
        x = x + self.dropout(mixed)
        return x + self.dropout(self.feed_forward(self.mlp_norm(x), routing))

    def feed_forward(self, x: Tensor, routing: list[Tensor] | None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        return self.mlp(x)


class Transformer(nn.Module):
    """Blocks in a row and a final norm.

    `recompute` (off until set): while training keep only what enters each block, and compute the rest again in the backward
    pass (Chen et al. 2016, arXiv:1604.06174): less memory for about a third more time.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, norm: nn.Module) -> None:
        super().__init__()
        self.recompute = False
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self,
        x: Tensor,
        *,
        rope: tuple[Tensor, Tensor] | None = None,
        keep: Tensor | PackedRows | None = None,
        apart: Tensor | None = None,
        cache: KVCache | None = None,
        routing: list[Tensor] | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D). With a cache, its position moves on by T. routing: each mixture of experts appends
        its router's logits."""
        options: dict[str, Any] = {"rope": rope, "keep": keep, "apart": apart}
        prepare = getattr(getattr(next(iter(self.blocks), None), "attention", None), "prepare", None)
        if prepare is not None:  # a mask for all blocks, not one in each
            options["mask"] = prepare(x, keep=keep, apart=apart, cache=cache)
        recompute = self.recompute and self.training and cache is None and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            if recompute:
                x = _recomputed(block, x, routing=routing, **options)
            else:
                x = block(x, cache=cache, layer=layer, routing=routing, **options)
        if cache is not None:
            cache.advance(x.shape[1])
        return self.norm(x)


def _recomputed(block: nn.Module, x: Tensor, *, routing: list[Tensor] | None, **options: Any) -> Tensor:
    """block(x), its activations dropped. Router logits leave as outputs: the second run shall not append to the list."""

    def run(x: Tensor) -> tuple[Tensor, ...]:
        own: list[Tensor] | None = None if routing is None else []
        return block(x, routing=own, **options), *(own or ())

    x, *logits = checkpoint(run, x, use_reentrant=False)
    if routing is not None:
        routing += logits
    return x
