"""The next tokens of requests with different options, each as in its single run.

Requests with the same settings share one call; a request whose choice depends on its own past (penalties, a constraint) has a
`Sampler` of its own, which knows that past: `note_token` appends to it.

Shapes: n active requests, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from muomni.inference.decoding.logits_processor import LogitsProcessor
from muomni.inference.decoding.sampling import Sampler, draw, filter_probs, mask_logits
from muomni.inference.scheduling.near_ties import MARGIN, choose_best
from muomni.inference.scheduling.running import Running


def needs_own_sampler(running: Running) -> bool:
    """True if the choice depends on more than the logits and the request's random numbers."""
    options = running.options
    return options.repetition_penalty != 1 or options.changes_logits or running.constraint is not None


def make_sampler(running: Running, *, device: torch.device, vocab_size: int) -> Sampler | None:
    """The request's own sampler, None if it can share one."""
    if not needs_own_sampler(running):
        return None
    sampler = Sampler(replace(running.options, logprobs=None), device=device)  # recorded by the request itself
    sampler.note(running.ids[None].to(device), vocab_size)
    if sampler.options.changes_logits:
        sampler.processor = LogitsProcessor(sampler.options, rows=1, vocab_size=vocab_size, device=device)
    return sampler


def note_token(running: Running, token: int) -> None:
    """Tell the request's own sampler which token was chosen in the end."""
    sampler = running.sampler
    if sampler is None:
        return
    ids = torch.tensor([token], device=sampler.device)
    if sampler.seen is not None:
        sampler.note(ids[:, None], sampler.seen.shape[1])
    if sampler.processor is not None:
        sampler.processor.push(ids)


@dataclass(slots=True)
class Choice:
    """The next token of a request, or what its own sampler raised. close: rounding could have decided it (replay.py)."""

    token: int | Exception
    close: bool = False


def sample_rows(rows: Sequence[Running], logits: Tensor, greedy: Tensor | None) -> list[Choice]:
    """logits (n, V) of the rows -> the choice of each. greedy: `greedy_choices` of the logits (n, 2), None: not known. Syncs with
    the device once."""
    if greedy is not None and all(row.sampler is None and row.options.is_greedy for row in rows):
        return [Choice(token, bool(close)) for token, close in greedy.tolist()]
    groups: dict[_Settings, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(_settings(row), []).append(index)
    result = [Choice(-1) for _ in rows]
    order: list[int] = []
    chosen: list[Tensor] = []
    for key, indices in groups.items():
        if key != _OWN:
            known = greedy if key == _GREEDY else None
            those = logits if known is None else known
            those = those if len(indices) == len(rows) else those[indices]
            chosen.append(_sample_together([rows[index] for index in indices], those) if known is None else those)
            order += indices
            continue
        for index in indices:
            try:
                chosen.append(_sample_alone(rows[index], logits[index : index + 1]))
                order.append(index)
            except Exception as error:  # a constraint, for example: the other requests are not concerned
                result[index].token = error
    for index, (token, close) in zip(order, torch.cat(chosen).tolist() if chosen else (), strict=True):
        result[index] = Choice(token, bool(close))
    return result


_Settings = tuple[float, int, float, float]
_OWN = (-1.0, 0, 1.0, 0.0)
_GREEDY = (0.0, 0, 1.0, 0.0)


def _settings(row: Running) -> _Settings:
    """What requests must have in common to be sampled in one call."""
    if row.sampler is not None:
        return _OWN
    options = row.options
    return _GREEDY if options.is_greedy else (options.temperature, options.top_k, options.top_p, options.min_p)


def _sample_together(rows: Sequence[Running], logits: Tensor) -> Tensor:
    """-> ids and whether they are close (n, 2)."""
    return _choose(rows, mask_logits(logits, penalty=1.0, seen=None))


def _choose(rows: Sequence[Running], masked: Tensor) -> Tensor:
    """From logits (n, V) as `mask_logits` returns them, by the settings of the first row."""
    options = rows[0].options
    if options.is_greedy:
        return choose_best(masked)
    drawn = [uniform(row.options.seed, len(row.tokens)) for row in rows]
    shifted = torch.tensor([drawn] * 3) + torch.tensor([[0.0], [-MARGIN], [MARGIN]])
    probs, candidates = filter_probs(
        masked, temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p
    )
    candidates = None if candidates is None else candidates.repeat(3, 1)
    ids, lower, upper = draw(probs.repeat(3, 1), candidates, shifted.flatten().to(masked.device)).view(3, -1)
    return torch.stack((ids, lower != upper), dim=1)


def uniform(seed: int, rng_offset: int) -> float:
    """Number `rng_offset` of a seed's stream, as `decoding.sampling.uniforms` has it, whose many operations on tensors of a few
    numbers take as long as a small model."""
    x = (seed + (rng_offset + 1) * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return ((x ^ x >> 31) >> 40) * 2.0**-24


def _sample_alone(row: Running, logits: Tensor) -> Tensor:
    """-> id and whether it is close (1, 2)."""
    sampler = row.sampler
    assert sampler is not None
    if row.constraint is not None:
        logits = logits.masked_fill(~row.constraint.allowed().to(logits.device), -torch.inf)
    if sampler.processor is not None:
        logits = sampler.processor(logits)
    return _choose([row], mask_logits(logits, penalty=row.options.repetition_penalty, seen=sampler.seen))
