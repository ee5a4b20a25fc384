"""Beam search: the likeliest answers instead of the likeliest next token (Lowerre 1976; Sutskever et al. 2014, arXiv:1409.3215).

The beams of all rows are rows of one cache. A beam that has ended keeps its place and its sum; at each step the W best of what
its row's beams could become go on. So one beam is greedy decoding, and as many beams as there are answers miss none.

Shapes: B rows, W beams a row, V vocabulary, t tokens so far.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.inference.decoding.generate import LOOKS_ON_GPU, decode_step
from muomni.inference.decoding.sampling import NOT_FINITE, admissible
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import EOS, PIECES


@dataclass(slots=True)
class Hypothesis:
    """An answer: ids without EOS, the sum of its log-probabilities (EOS included), and the score it is ranked by."""

    ids: list[int]
    log_probability: float
    score: float


@torch.inference_mode()
def beam_search(
    thinker: Thinker,
    logits: Tensor,
    cache: KVCache,
    *,
    num_beams: int,
    length_penalty: float,
    repetition_penalty: float,
    limits: Tensor,
    padding: Tensor | None,
    seen: Tensor | None,
    stopped: Callable[[Sequence[int]], bool] | None = None,
) -> list[list[Hypothesis]]:
    """After a prefill: logits (B, V) and a cache of B rows, which becomes the beams' -> W answers a row, the best first.

    length_penalty: the sum is divided by length ** this, EOS counted (Wu et al. 2016, arXiv:1609.08144, in its plainest
    form). limits: (B), most tokens of each row. padding: (B), as in `prefill`. seen: (B, V), as in `choose`. stopped: whether
    an answer ends with its last token for another reason than EOS. Raises ValueError where the model's numbers are not finite.
    """
    B, V = logits.shape
    W, device = num_beams, logits.device
    own = torch.arange(B, device=device).repeat_interleave(W)
    cache.reorder(own)
    step = functools.partial(decode_step, thinker, cache=cache, padding=None if padding is None else padding[own])
    logits, seen = logits[own], None if seen is None else seen[own]
    sums = torch.full((B, W), -torch.inf, device=device, dtype=torch.float64)
    sums[:, 0] = 0.0  # the beams of a row are still the same
    ids = torch.zeros(B, W, 0, dtype=torch.long, device=device)
    ended = torch.zeros(B, W, dtype=torch.bool, device=device)
    halted = torch.zeros(B, W, dtype=torch.bool, device=device)  # by `stopped`
    lengths = torch.zeros(B, W, dtype=torch.long, device=device)
    still = torch.full((V,), -torch.inf, device=device)
    still[EOS] = 0.0  # all that becomes of a beam that stands still
    looks = LOOKS_ON_GPU if device.type == "cuda" else 1
    for count in range(1, int(limits.max()) + 1):
        stands = ended | halted | (limits < count)[:, None]
        shares = admissible(logits, penalty=repetition_penalty, seen=seen).log_softmax(dim=1).view(B, W, V)
        shares = torch.where(stands[..., None], still, shares)
        sums, best = (sums[..., None] + shares).flatten(1).topk(W, dim=1)
        parents, chosen = best // V, best % V
        stands = stands.gather(1, parents)
        lengths = lengths.gather(1, parents) + (~stands).long()
        ended = ended.gather(1, parents) | (~stands & (chosen == EOS))
        halted = halted.gather(1, parents)
        ids = torch.cat([ids.gather(1, parents[..., None].expand(-1, -1, ids.shape[2])), chosen[..., None]], dim=2)
        if stopped is not None:
            halted = halted | _stopped(stopped, ids, standing=stands)
        stands = ended | halted | (limits <= count)[:, None]
        if cache.remaining == 0 or (count % looks == 0 and bool(stands.all())):
            break
        rows = (parents + torch.arange(B, device=device)[:, None] * W).flatten()
        cache.reorder(rows)
        if seen is not None:
            seen = seen[rows].scatter(1, chosen.view(-1, 1), True)
            seen[:, : len(PIECES)] = False
        logits = step(chosen.flatten())
    found = _ranked(ids, sums, lengths, ended, length_penalty)
    if not all(found):
        raise ValueError(NOT_FINITE)
    return found


def _stopped(stopped: Callable[[Sequence[int]], bool], ids: Tensor, *, standing: Tensor) -> Tensor:
    """(B, W) bool: which of the beams ids (B, W, t) that do not stand still end here."""
    rows = zip(ids.tolist(), standing.tolist(), strict=True)
    now = [[not still and stopped(beam) for beam, still in zip(*row, strict=True)] for row in rows]
    return torch.tensor(now, device=ids.device)


def _ranked(ids: Tensor, sums: Tensor, lengths: Tensor, ended: Tensor, length_penalty: float) -> list[list[Hypothesis]]:
    scores = sums / lengths.clamp_min(1).float() ** length_penalty
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    sums, lengths, ended = sums.gather(1, order), lengths.gather(1, order), ended.gather(1, order)
    ids = ids.gather(1, order[..., None].expand_as(ids))
    rows: list[list[Hypothesis]] = []
    for row in range(len(ids)):
        kept = [
            Hypothesis(beam[: length - end], total, score)
            for beam, length, end, total, score in zip(
                ids[row].tolist(), lengths[row].tolist(), ended[row].tolist(), sums[row].tolist(), scores[row].tolist(),
                strict=True,
            )
            if score > -torch.inf  # fewer answers than beams
        ]  # fmt: skip
        rows.append(kept)
    return rows
