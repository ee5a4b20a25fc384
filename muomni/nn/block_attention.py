"""Attention for training in bfloat16 on a CPU that multiplies it but has no AMX: blocks of queries, by the library's products.

torch's fused kernel is made for AMX: elsewhere it takes twice as long, which was a seventh of a training step of the tiny Thinker
(docs/experiments/training.md). A block of queries is multiplied by the keys that a causal query can reach.
Scores and their softmax are float32, as in the kernel; weights and gradients are multiplied in bfloat16. The weights are kept for
the backward pass, which the kernel does not need: B H T^2 numbers, half of them where attention is causal.

Forwards and backwards are operators of torch's own kind, which torch.compile does not trace.

Legend: B batch, H query heads, G key-value heads, T tokens, K head width; of a block b samples, L queries, S keys,
N = b G.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # L
SCORES = 1 << 19  # computed at a time, unless a sample has more: they are to stay in the processor's cache
MIN_LENGTH, MAX_LENGTH = 64, 1024  # tokens: of fewer the kernel is as fast, of more the weights take much memory
IS_FASTER = torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
HIDDEN = -1e30  # not infinity: a row of padding that attends to nothing must not be NaN


def prefers_blocks(query: Tensor, key: Tensor) -> bool:
    """Whether attention of query (B, H, T, K) to key (B, G, T, K) is computed here: in training alone."""
    return (
        IS_FASTER
        and query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] == key.shape[2]
        and MIN_LENGTH <= query.shape[2] <= MAX_LENGTH
        and torch.is_grad_enabled()
        and query.requires_grad
    )


def attend_by_blocks(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
    """Attention of query (B, H, T, K) to key and value (B, G, T, K) -> (B, H, T, K). mask: (B or 1, 1, T or 1, T) bool, True
    where a query attends; None: to all. causal: nothing attends to later keys, whatever the mask says."""
    mixed: Tensor = _forward(query, key, value, mask, causal)[0]
    return mixed


def _blocks(weights: Tensor, query: Tensor, groups: int, *, causal: bool) -> Iterator[tuple[slice, slice, int, Tensor]]:
    """Of each block its samples, queries, S, and its part of `weights`, (N, H / G L, S)."""
    B, H, T, _ = query.shape
    begin, samples = 0, max(1, SCORES // (H * min(T, BLOCK) * T))
    for sample in range(0, B, samples):
        rows = slice(sample, min(B, sample + samples))
        for first in range(0, T, BLOCK):
            last = min(T, first + BLOCK)
            S = last if causal else T
            count = (rows.stop - sample) * H * (last - first) * S
            yield rows, slice(first, last), S, weights[begin : begin + count].view((rows.stop - sample) * groups, -1, S)
            begin += count


def _new_weights(query: Tensor, *, causal: bool) -> Tensor:
    """Room for the weights of all blocks, as if each were full."""
    B, H, T, _ = query.shape
    count = -(-T // BLOCK)
    return query.new_empty(B * H * BLOCK * (BLOCK * count * (count + 1) // 2 if causal else count * T))


def _new_output(query: Tensor) -> Tensor:
    """(B, H, T, K), in memory (B, T, H, K): the next layer reads all heads of a token."""
    B, H, T, K = query.shape
    return query.new_empty(B, T, H, K).transpose(1, 2)


@torch.library.custom_op("muomni::attend_by_blocks", mutates_args=())
def _forward(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
    """Attention, and the weights for the backward pass."""
    B, H, T, K = query.shape
    G = key.shape[1]
    mixed, weights = _new_output(query), _new_weights(query, causal=causal)
    scaled, keys = (query.float() * K**-0.5).reshape(B, G, -1, T, K), key.float().contiguous()
    value, later = value.contiguous(), torch.full((BLOCK, BLOCK), HIDDEN).triu(1)
    mask = None if mask is None else mask.expand(B, 1, T, T)
    with torch.autocast("cpu", enabled=False):
        for rows, queries, S, part in _blocks(weights, query, G, causal=causal):
            scores = torch.bmm(_rows(scaled[rows, :, :, queries]), keys[rows, :, :S].view(-1, S, K).mT)
            per_head = scores.view(-1, H, queries.stop - queries.start, S)
            if mask is not None:
                per_head.masked_fill_(~mask[rows, :, queries, :S], HIDDEN)
            if causal:
                per_head[..., queries].add_(later[: per_head.shape[2], : per_head.shape[2]])
            part.copy_(torch.softmax(scores, dim=-1, out=scores))
            mixed[rows, :, queries] = torch.bmm(part, value[rows, :, :S].view(-1, S, K)).view(*per_head.shape[:3], K)
    return mixed, weights


@torch.library.custom_op("muomni::attend_by_blocks_backward", mutates_args=())
def _backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, weights: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value."""
    B, H, T, K = query.shape
    G = key.shape[1]
    of_query = _new_output(query)
    of_key, of_value = (torch.zeros(B, G, T, K) for _ in range(2))  # float32: sums over blocks
    keys, values = key.contiguous(), value.contiguous()
    whole, gradient = (each.reshape(B, G, -1, T, K) for each in (query, gradient))
    with torch.autocast("cpu", enabled=False):
        for rows, queries, S, part in _blocks(weights, query, G, causal=causal):
            chosen, of_mixed = (_rows(each[rows, :, :, queries]) for each in (whole, gradient))
            of_weights = torch.bmm(of_mixed, values[rows, :, :S].view(-1, S, K).mT)
            of_scores = torch._softmax_backward_data(of_weights, part, -1, part.dtype)
            of_value[rows, :, :S].view(-1, S, K).add_(torch.bmm(part.mT, of_mixed))
            of_key[rows, :, :S].view(-1, S, K).add_(torch.bmm(of_scores.mT, chosen))
            products = torch.bmm(of_scores, keys[rows, :, :S].view(-1, S, K))
            of_query[rows, :, queries] = products.view(-1, H, queries.stop - queries.start, K)
    return of_query.mul_(K**-0.5), of_key.mul_(K**-0.5).to(key.dtype), of_value.to(value.dtype)


def _rows(x: Tensor) -> Tensor:
    """Of samples (b, G, H / G, L, K) -> (b G, H / G L, K)."""
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
    return _new_output(query), _new_weights(query, causal=causal)


@_backward.register_fake
def _(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, weights: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _new_output(query), key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, bool], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, _, ctx.causal = inputs
    ctx.save_for_backward(query, key, value, output[1])
    ctx.set_materialize_grads(False)  # nothing reads the weights' gradient


def _gradients(ctx: Any, of_mixed: Tensor | None, of_weights: Tensor | None) -> tuple[Tensor | None, ...]:
    if of_mixed is None:
        return None, None, None, None, None
    return *_backward(of_mixed, *ctx.saved_tensors, ctx.causal), None, None


_forward.register_autograd(_gradients, setup_context=_keep)
