"""The next tokens of requests with different options, each as in its single run.

Requests with the same settings share one call; a request whose choice depends on its own past (penalties, a constraint) has a
`Sampler` of its own.

Shapes: n active requests, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.inference.decoding.sampling import Sampler, sample_tokens, uniforms
from muomni.inference.scheduling.running import Running


def needs_own_sampler(running: Running) -> bool:
    """True if the choice depends on more than the logits and the request's random numbers."""
    options = running.options
    return options.repetition_penalty != 1 or options.needs_eager or running.constraint is not None


def make_sampler(running: Running, *, device: torch.device, vocab_size: int) -> Sampler | None:
    """The request's own sampler, None if it can share one."""
    if not needs_own_sampler(running):
        return None
    sampler = Sampler(running.options, device=device)
    sampler.note(running.ids[None].to(device), vocab_size)
    return sampler


def sample_rows(rows: Sequence[Running], logits: Tensor) -> list[int | Exception]:
    """logits (n, V) of the rows -> the next id of each, or what its own sampler raised. Syncs with the device once."""
    settings = [_settings(row) for row in rows]
    result: list[int | Exception] = [0] * len(rows)
    order, chosen = [], []
    for key in dict.fromkeys(settings):
        indices = [index for index, other in enumerate(settings) if other == key]
        if key != _OWN:
            those = logits if len(indices) == len(rows) else logits[indices]
            chosen.append(_sample_together([rows[index] for index in indices], those))
            order += indices
            continue
        for index in indices:
            try:
                chosen.append(_sample_alone(rows[index], logits[index : index + 1]))
                order.append(index)
            except Exception as error:  # a constraint, for example: the other requests are not concerned
                result[index] = error
    for index, token in zip(order, torch.cat(chosen).tolist() if chosen else (), strict=True):
        result[index] = token
    return result


_OWN = (-1.0, 0, 1.0, 0.0)
_GREEDY = (0.0, 0, 1.0, 0.0)


def _settings(row: Running) -> tuple[float, int, float, float]:
    """What requests must have in common to be sampled in one call."""
    if row.sampler is not None:
        return _OWN
    options = row.options
    return _GREEDY if options.is_greedy else (options.temperature, options.top_k, options.top_p, options.min_p)


def _sample_together(rows: Sequence[Running], logits: Tensor) -> Tensor:
    options = rows[0].options
    uniform = None
    if not options.is_greedy:
        seeds, drawn = torch.tensor(
            [[row.options.seed for row in rows], [len(row.tokens) for row in rows]], device=logits.device
        )
        uniform = uniforms(seeds, drawn)
    return sample_tokens(logits, options=options, uniform=uniform)


def _sample_alone(row: Running, logits: Tensor) -> Tensor:
    assert row.sampler is not None
    if row.constraint is not None:
        logits = logits.masked_fill(~row.constraint.allowed().to(logits.device), -torch.inf)
    return row.sampler(logits)
