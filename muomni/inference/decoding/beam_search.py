"""Beam search: the most likely answers instead of the most likely next token (Lowerre 1976; Sutskever et al. 2014,
arXiv:1409.3215).

The beams of all rows are rows of one cache. A finished beam keeps its slot and its sum; at each step the W best continuations
of a row's beams survive. So one beam is greedy decoding, and with as many beams as there are answers the search is exhaustive.

Shapes: B rows, W beams a row, V vocabulary, t tokens so far.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.detokenizer import stop_predicate
from muomni.inference.decoding.generate import SYNC_EVERY, decode_step
from muomni.inference.decoding.logits_processor import LogitsProcessor
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.sampling import NOT_FINITE, mask_logits
from muomni.inference.errors import MuomniError
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import EOS, PIECES


@dataclass(slots=True)
class Hypothesis:
    """An answer: ids without EOS, the sum of its log-probabilities (EOS included), its ranking score, and whether it ended by
    EOS."""

    ids: list[int]
    log_probability: float
    score: float
    ended: bool


@torch.inference_mode()
def beam_search(
    thinker: Thinker,
    logits: Tensor,
    cache: KVCache,
    *,
    options: GenerationOptions,
    limits: Tensor,
    padding: Tensor | None,
    seen: Tensor | None,
    tokenizer: Tokenizer | None,
) -> list[list[Hypothesis]]:
    """Logits (B, V) of a prefill and its cache of B rows -> up to W answers per row, best first. Expands the cache.

    Answers are ranked by their log-probability / length ** length_penalty, EOS counted (Wu et al. 2016, arXiv:1609.08144, in its
    simplest form). limits: (B), maximum tokens of each row. padding: (B), as in `prefill`. seen: (B, V), as in `sample_tokens`.
    tokenizer: needed for stop strings. Raises MuomniError if the logits are not finite.
    """
    B, V = logits.shape
    W, device = options.num_beams, logits.device
    stopped = None if tokenizer is None else stop_predicate(tokenizer, options.stop)
    own = torch.arange(B, device=device).repeat_interleave(W)
    cache.reorder(own)
    step = functools.partial(decode_step, thinker, cache=cache, padding=None if padding is None else padding[own])
    logits, seen = logits[own], None if seen is None else seen[own]
    sums = torch.full((B, W), -torch.inf, device=device, dtype=torch.float64)
    sums[:, 0] = 0.0  # the beams of a row are identical at first
    ids = torch.zeros(B, W, 0, dtype=torch.long, device=device)
    ended, halted = torch.zeros(2, B, W, dtype=torch.bool, device=device)  # by EOS, by `stopped`
    lengths = torch.zeros(B, W, dtype=torch.long, device=device)
    finished_log_probs = torch.full((V,), -torch.inf, device=device)
    finished_log_probs[EOS] = 0.0  # the only continuation of a finished beam
    sync_every = SYNC_EVERY if device.type == "cuda" else 1
    processor = LogitsProcessor(options, rows=B * W, vocab_size=V, device=device)
    for count in range(1, int(limits.max()) + 1):
        finished = ended | halted | (limits < count)[:, None]
        logits = processor(logits)
        log_probs = mask_logits(logits, penalty=options.repetition_penalty, seen=seen).log_softmax(dim=1).view(B, W, V)
        log_probs = torch.where(finished[..., None], finished_log_probs, log_probs)
        sums, best = (sums[..., None] + log_probs).flatten(1).topk(W, dim=1)
        parents, chosen = best // V, best % V
        finished = finished.gather(1, parents)
        lengths = lengths.gather(1, parents) + (~finished).long()
        ended = ended.gather(1, parents) | (~finished & (chosen == EOS))
        halted = halted.gather(1, parents)
        ids = torch.cat([ids.gather(1, parents[..., None].expand(-1, -1, ids.shape[2])), chosen[..., None]], dim=2)
        if stopped is not None:
            halted = halted | _stopped(stopped, ids, finished=finished)
        finished = ended | halted | (limits <= count)[:, None]
        if cache.remaining == 0 or (count % sync_every == 0 and bool(finished.all())):
            break
        rows = (parents + torch.arange(B, device=device)[:, None] * W).flatten()
        cache.reorder(rows)
        processor.reorder(rows)
        processor.push(chosen.flatten())
        if seen is not None:
            seen = seen[rows].scatter(1, chosen.view(-1, 1), True)
            seen[:, : len(PIECES)] = False
        logits = step(chosen.flatten())
    return _ranked(ids, sums, lengths, ended, options.length_penalty)


def _stopped(stopped: Callable[[Sequence[int]], bool], ids: Tensor, *, finished: Tensor) -> Tensor:
    """(B, W) bool: unfinished beams of ids (B, W, t) that end with a stop string."""
    rows = zip(ids.tolist(), finished.tolist(), strict=True)
    now = [[not done and stopped(beam) for beam, done in zip(*row, strict=True)] for row in rows]
    return torch.tensor(now, device=ids.device)


def _ranked(ids: Tensor, sums: Tensor, lengths: Tensor, ended: Tensor, length_penalty: float) -> list[list[Hypothesis]]:
    """Hypotheses of each row, best first. Raises MuomniError for a row without any, whose logits were not finite."""
    scores = sums / lengths.clamp_min(1).float() ** length_penalty
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    sums, lengths, ended = sums.gather(1, order), lengths.gather(1, order), ended.gather(1, order)
    ids = ids.gather(1, order[..., None].expand_as(ids))
    columns = (ids.tolist(), lengths.tolist(), ended.tolist(), sums.tolist(), scores.tolist())
    hypotheses = [
        [
            Hypothesis(beam[: length - end], total, score, end)
            for beam, length, end, total, score in zip(*row, strict=True)
            if score > -torch.inf  # fewer answers than beams
        ]
        for row in zip(*columns, strict=True)
    ]
    if not all(hypotheses):
        raise MuomniError(NOT_FINITE)
    return hypotheses
