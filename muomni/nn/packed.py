"""Who sees whom in rows that several samples share, as a mask and as runs.

A token sees those before it of its own segment; where questions share a picture, those of its own part of the segment and of
part 0, the picture's. On a CPU that is a boolean mask, built once a forward. A GPU's flash kernels take no mask: there each
part is a run of queries, and what it sees is a run of keys, those of part 0 and its own, gathered one behind the other
(`varlen_attn`, causal from the ends of both). Runs are found on the host, where the rows are made: their number is a shape.

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


class PackedRows(NamedTuple):
    """segments (B, T) long: 1, 2, ... in each row, 0 for padding. parts (B, T) long, or None: each segment is one. runs: of
    `runs_of`, or None: not known, and a mask says it on every device. positions (B, T), with parts: each as if it stood alone,
    for windows."""

    segments: Tensor
    parts: Tensor | None = None
    runs: Runs | None = None
    positions: Tensor | None = None

    def mask(self, *, window: int | None) -> Tensor:
        """(B, 1, T, T) bool, True where a token sees another; padding sees padding, since a softmax over nothing is NaN."""
        T = self.segments.shape[1]
        if self.parts is None:
            same = self.segments[:, None, :, None] == self.segments[:, None, None]
            return causal_mask(T, T, window=window, device=self.segments.device)[None, None] & same
        seen = visible(self.segments, self.parts)
        if window is not None:  # by position: in the row, other questions about the same picture may lie between
            assert self.positions is not None
            seen = seen & (self.positions[:, :, None] - self.positions[:, None] < window)
        return causal_mask(T, T, window=None, device=seen.device)[None, None] & seen[:, None]

    def behind(self, distance: int) -> Tensor:
        """(B, T - distance) bool: whether a token, from the `distance`-th on, sees the one so far before it in its row."""
        now, then = slice(distance, None), slice(None, -distance)
        seen = self.segments[:, now] == self.segments[:, then]
        if self.parts is not None:
            seen = seen & ((self.parts[:, now] == self.parts[:, then]) | (self.parts[:, then] == 0))
        return seen


def causal_mask(length: int, total: int, *, window: int | None, device: torch.device) -> Tensor:
    """(length, total) bool, True where the i-th of the last `length` of `total` tokens may look (window: itself and
    the `window - 1` before it)."""
    query = torch.arange(total - length, total, device=device)[:, None]
    key = torch.arange(total, device=device)[None]
    seen = key <= query
    return seen if window is None else seen & (key > query - window)


def visible(segments: Tensor, parts: Tensor) -> Tensor:
    """Who may see whom in packed rows, (B, T, T) bool: a token sees those of its own segment (B, T) that are of its own
    part (B, T) or of part 0, which all parts of a segment share: questions about one picture, each as if it stood alone."""
    same = segments[:, :, None] == segments[:, None]
    return same & ((parts[:, :, None] == parts[:, None]) | (parts[:, None] == 0))


def runs_of(segments: Tensor, parts: Tensor | None = None) -> Runs:
    """Runs of rows as in `PackedRows`, on the CPU. In its row a part stands in one piece, and part 0 before the others."""
    B, T = segments.shape
    own = segments if parts is None else segments * (int(parts.max()) + 1) + parts
    begins = F.pad(own[:, 1:] != own[:, :-1], (1, 0), value=True).flatten()
    starts = begins.nonzero()[:, 0]
    ends = torch.cat([starts[1:], torch.tensor([B * T])])
    queries = torch.cat([starts, ends[-1:]]).int()
    if parts is None or not bool((parts != 0).any()):
        return Runs(queries, queries.clone(), None)
    segment, part = segments.flatten()[starts].tolist(), parts.flatten()[starts].tolist()
    index, lengths, shared = [], [], torch.arange(0)
    rows = (starts // T).tolist()
    where = (-1, -1)
    for run, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if where != (rows[run], segment[run]):
            where, shared = (rows[run], segment[run]), torch.arange(0)
        mine = torch.arange(start, end)
        index.append(mine if part[run] == 0 else torch.cat([shared, mine]))
        lengths.append(len(index[-1]))
        if part[run] == 0:
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
    tokens that one sees, itself included, None for all."""
    from torch.nn.attention.varlen import varlen_attn  # takes a while, and a machine without a GPU does without

    B, H, T, K = query.shape
    flat = [x.transpose(1, 2).reshape(B * T, -1, K) for x in (query, key, value)]
    if runs.gather is not None:
        flat[1:] = [x[runs.gather] for x in flat[1:]]
    if flat[1].shape[1] != H:
        flat[1:] = [x.repeat_interleave(H // x.shape[1], dim=1) for x in flat[1:]]
    # The row's width bounds every run: a number that changes from batch to batch would be compiled anew.
    reach = (-1 if window is None else window - 1, 0)
    mixed = varlen_attn(flat[0], flat[1], flat[2], runs.queries, runs.keys, T, T, window_size=reach)
    assert isinstance(mixed, Tensor)
    return mixed.view(B, T, H, K).transpose(1, 2)
