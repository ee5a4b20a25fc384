"""Packed rows for a GPU's variable-length flash attention, which takes no mask: runs of tokens in its place.

Each branch of a segment is a run of queries, and what it attends to is a run of keys: those of branch 0, which all branches
share, and its own, gathered one after the other (`varlen_attn`, causal from the ends of both). Runs are found on the host, where
the rows are made: their number is a shape. `masks.SegmentMask` says the same where there is no such kernel.

Legend: B batch, T tokens, R runs, S keys of all runs, H query heads, G key-value heads, K head width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Widths of a head that torch's flash kernel takes, and the GPUs that have it (Ampere and later).
HEAD_MULTIPLE, HEAD_MOST, CAPABILITY = 8, 256, (8, 0)


class Runs(NamedTuple):
    """Of flattened rows: `queries` (R + 1) int32, where each run begins, and the end; `keys` (R + 1) int32 the same among the
    keys, which are the tokens `gather` (S) long, or with None those of the queries themselves."""

    queries: Tensor
    keys: Tensor
    gather: Tensor | None


def runs_of(segment_ids: Tensor, branch_ids: Tensor | None = None) -> Runs:
    """Runs of the rows of a `SegmentMask`, on the CPU. In its row a branch is contiguous, and branch 0 before the others."""
    B, T = segment_ids.shape
    own = segment_ids if branch_ids is None else segment_ids * (int(branch_ids.max()) + 1) + branch_ids
    begins = F.pad(own[:, 1:] != own[:, :-1], (1, 0), value=True).flatten()
    starts = begins.nonzero()[:, 0]
    ends = torch.cat([starts[1:], torch.tensor([B * T])])
    queries = torch.cat([starts, ends[-1:]]).int()
    if branch_ids is None or not bool((branch_ids != 0).any()):
        return Runs(queries, queries.clone(), None)
    segment, branch = segment_ids.flatten()[starts].tolist(), branch_ids.flatten()[starts].tolist()
    index, lengths, shared = [], [], torch.arange(0)
    rows = (starts // T).tolist()
    where = (-1, -1)
    for run, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if where != (rows[run], segment[run]):
            where, shared = (rows[run], segment[run]), torch.arange(0)
        mine = torch.arange(start, end)
        index.append(mine if branch[run] == 0 else torch.cat([shared, mine]))
        lengths.append(len(index[-1]))
        if branch[run] == 0:
            shared = mine
    keys = F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()
    return Runs(queries, keys, torch.cat(index))


def has_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether `attend_runs` can be computed there: torch's variable-length flash attention, in half precision."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and dtype in (torch.bfloat16, torch.float16)
        and head_dim % HEAD_MULTIPLE == 0
        and head_dim <= HEAD_MOST
        and torch.cuda.get_device_capability(device) >= CAPABILITY
    )


def attend_runs(query: Tensor, key: Tensor, value: Tensor, runs: Runs, *, window: int | None) -> Tensor:
    """query (B, H, T, K), key and value (B, G, T, K), in half precision -> (B, H, T, K), causal within the runs; window:
    tokens that one attends to, itself included, None for all."""
    from torch.nn.attention.varlen import varlen_attn  # takes a while, and a machine without a GPU does without

    B, H, T, K = query.shape
    flat = [x.transpose(1, 2).reshape(B * T, -1, K) for x in (query, key, value)]
    if runs.gather is not None:
        flat[1:] = [x[runs.gather] for x in flat[1:]]
    if flat[1].shape[1] != H:
        flat[1:] = [x.repeat_interleave(H // x.shape[1], dim=1) for x in flat[1:]]
    # The row's width bounds every run: a number that changes from batch to batch would be compiled again.
    reach = (-1 if window is None else window - 1, 0)
    mixed = varlen_attn(flat[0], flat[1], flat[2], runs.queries, runs.keys, T, T, window_size=reach)
    assert isinstance(mixed, Tensor)
    return mixed.view(B, T, H, K).transpose(1, 2)
