"""The pre-norm residual block and a stack of them: every network of muomni is made of these.

Legend: B batch, T time, D width.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from muomni.nn.attention import Attention
from muomni.nn.context import NO_CONTEXT, AttentionContext
from muomni.nn.norm import RMSNorm


class TransformerOutput(NamedTuple):
    """hidden (B, T, D), after the final norm; router_logits: (B, T, experts) float32 of each mixture of experts (moe.py);
    intermediate: what `after_blocks` names, as `hidden`."""

    hidden: Tensor
    router_logits: list[Tensor]
    intermediate: Sequence[Tensor] = ()


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). Attention, MLP and norm are chosen by the caller; output_norm: also of what
    attention and MLP return, before it is added (Gemma 2, arXiv:2408.00118)."""

    def __init__(
        self,
        *,
        attention: Attention,
        mlp: nn.Module,
        norm: Callable[[], nn.Module],
        dropout: float,
        output_norm: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = norm(), norm()
        self.attention_output_norm = norm() if output_norm else nn.Identity()
        self.mlp_output_norm = norm() if output_norm else nn.Identity()
        self.attention, self.mlp = attention, mlp
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, context: AttentionContext = NO_CONTEXT, *, layer: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D), and the router's logits of a mixture of experts. layer: of the context's cache."""
        update = self.attention(self.attention_norm(x), context, layer=layer)
        x = x + self.dropout(self.attention_output_norm(update))
        update, router_logits = self.feed_forward(self.mlp_norm(x))
        return x + self.dropout(self.mlp_output_norm(update)), router_logits

    def feed_forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D), and any router's logits."""
        return self.mlp(x), None


def drop_rows(x: Tensor, y: Tensor, *, probability: float) -> Tensor:
    """What enters a block, x (B, T, D), and what leaves it, y -> y, or x in rows drawn with that probability; y - x is scaled
    so that the expectation is y."""
    kept = torch.rand(len(x), 1, 1, device=x.device) >= probability
    return x + (y - x) * (kept / (1 - probability)).to(y.dtype)


class Transformer(nn.Module):
    """Blocks in a row and a final norm.

    `layer_drop` (0 until set): while training, the probability with which a row skips the last block; that of the others rises
    to it in equal steps (stochastic depth, Huang et al. 2016, arXiv:1603.09382; in LLMs and speech known as layer drop).
    What a block adds is divided by the probability of its being there, so that the expectation is the block itself.
    `recompute` (off until set): while training keep only what enters each block, and compute the rest again in the backward
    pass (Chen et al. 2016, arXiv:1604.06174): less memory for about a third more time.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, norm: nn.Module) -> None:
        super().__init__()
        self.recompute, self.layer_drop = False, 0.0
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self, x: Tensor, context: AttentionContext = NO_CONTEXT, *, after_blocks: Collection[int] = ()
    ) -> TransformerOutput:
        """x (B, T, D) -> the same shape. The position of the context's cache moves on by T. after_blocks: numbers of
        blocks, from 1, after which the hidden states are returned too, after the final norm."""
        cache = context.cache
        contexts = self._contexts(x, context)
        recompute = self.recompute and self.training and cache is None and torch.is_grad_enabled()
        drop = self.layer_drop if self.training and cache is None else 0.0
        router_logits: list[Tensor] = []
        intermediate: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            if recompute:
                y, logits = checkpoint(block, x, contexts[layer], use_reentrant=False)
            else:
                y, logits = block(x, contexts[layer], layer=layer)
            x = drop_rows(x, y, probability=drop * (layer + 1) / len(self.blocks)) if drop else y
            if logits is not None:
                router_logits.append(logits)
            if layer + 1 in after_blocks:
                intermediate.append(self.norm(x))
        if cache is not None:
            cache.advance(x.shape[1])
        return TransformerOutput(self.norm(x), router_logits, intermediate)

    def _contexts(self, x: Tensor, context: AttentionContext) -> list[AttentionContext]:
        """Of each block: one mask for all blocks of a window, not one in each."""
        found: dict[int | None, AttentionContext] = {}
        contexts = []
        for block in self.blocks:
            if not isinstance(block, Block):
                contexts.append(context)
                continue
            window = block.attention.window
            if window not in found:
                found[window] = block.attention.prepare(x, context)
            contexts.append(found[window])
        return contexts


def stack(
    num_layers: int,
    dim: int,
    *,
    attention: Callable[..., Attention],
    mlp: Callable[[int], nn.Module],
    dropout: float,
    norm_eps: float,
    norm: type[nn.Module] = RMSNorm,
    final_norm: type[nn.Module] = RMSNorm,
    block: Callable[..., Block] = Block,
    windows: Sequence[int | None] | None = None,
) -> Transformer:
    """Blocks of the same form. attention, mlp: width -> those of one block. windows: of each block's attention."""
    shape = {"norm": partial(norm, dim, eps=norm_eps), "dropout": dropout}
    each: list[dict[str, Any]] = [{}] * num_layers if windows is None else [{"window": window} for window in windows]
    blocks = [block(attention=attention(dim, **options), mlp=mlp(dim), **shape) for options in each]
    return Transformer(blocks, norm=final_norm(dim, eps=norm_eps))
