"""The scheduler's step compiled, for an engine that was loaded with `compile=`.

A step is compiled for 2, 4, 8, ... rows, when the scheduler starts: fewer active rows are filled up with idle ones, whose token
is written after what they hold, where nothing is lost. A request that is alone from its beginning is decoded by the engine's own
runtime (steps.py), several tokens a call.

Shapes: n active rows, S slots, V vocabulary.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muomni.inference.decoding.aot_cache import COMPILER, find_or_build, use_private_compiler_cache
from muomni.inference.decoding.compiled import RECOMPILE_LIMIT, SLOTS, Compiled
from muomni.inference.scheduling.rows_step import RowsStep
from muomni.inference.scheduling.slots import SlotCache

log = logging.getLogger(__name__)

Call = Callable[[list[Any]], Tensor]
SLOTS_AT = 2  # position among the arguments of `RowsStep.forward`


class CompiledRows:
    """Callable as `Steps` computes eagerly: the last tokens of the active rows -> their logits."""

    def __init__(self, runtime: Compiled, cache: SlotCache, *, max_rows: int) -> None:
        self.runtime, self.cache = runtime, cache
        self.step = RowsStep(runtime.thinker, capacity=cache.capacity).eval()
        self.calls: dict[int, Call] = {}
        if cache.capacity > SLOTS:  # else no step would cover fewer slots than there are
            for rows in row_counts(max_rows, len(cache.lengths)):
                self.calls[rows] = (self._package if runtime.mode == "max" else self._jit)(rows)

    def __call__(self, tokens: list[int], lengths: list[int]) -> Tensor | None:
        """The last tokens of the first n rows, which hold `lengths` tokens -> logits (n, V); None where the step covers too few
        slots or rows: it is computed eagerly."""
        count = len(tokens)
        rows = next((rows for rows in self.calls if rows >= count), None)
        covered = -(-(max(lengths) + 1) // SLOTS) * SLOTS
        if rows is None or covered >= self.cache.capacity:
            return None
        idle = np.minimum(self.cache.lengths[count:rows], self.cache.capacity - 1)
        self.cache.lengths[count:rows] = (
            idle  # a token is written after what the row holds, which costs a full one its last
        )
        self.cache.written[:rows] = np.maximum(self.cache.written[:rows], self.cache.lengths[:rows] + 1)
        filled = torch.tensor([tokens + [0] * (rows - count), [*lengths, *idle.tolist()]]).to(self.runtime.device)
        return self.calls[rows](self._arguments(filled[0].clone(), filled[1].clone(), covered))[:count]

    def _arguments(self, tokens: Tensor, positions: Tensor, covered: int) -> list[Any]:
        return [tokens, positions, self.cache.slots[:covered], *self.cache.layers]

    def _example(self, rows: int) -> list[Any]:
        tokens, positions = (torch.zeros(rows, dtype=torch.long, device=self.runtime.device) for _ in range(2))
        return self._arguments(tokens, positions, min(2 * SLOTS, self.cache.capacity - 1))

    @torch.inference_mode()
    def _jit(self, rows: int) -> Call:
        use_private_compiler_cache()
        compiled = torch.compile(self.step, fullgraph=True, options=COMPILER)

        def call(arguments: list[Any]) -> Tensor:
            torch._dynamo.maybe_mark_dynamic(arguments[SLOTS_AT], 0)
            with self.runtime.lock, torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
                return compiled(*arguments)

        start = time.perf_counter()
        call(self._example(rows))  # torch compiles now, not in the middle of an answer
        self.cache.written[:rows] = 1
        log.info("compiled a step of %d rows in %.1f s", rows, time.perf_counter() - start)
        return call

    def _package(self, rows: int) -> Call:
        example, layers = self._example(rows), len(self.cache.layers[0])
        slots = torch.export.Dim("slots", min=2, max=self.cache.capacity - 1)
        key = {
            "thinker": vars(self.runtime.thinker)["options"],
            "tensors": sorted((name, str(t.dtype), list(t.shape)) for name, t in self.step.state_dict().items()),
            "rows": [rows, *self.cache.keys.shape],
        }
        run = find_or_build(
            self.step,
            example,
            dynamic=[None, None, {0: slots}, *([None] * layers for _ in range(3))],
            key=key,
            folder=self.runtime.packages,
            device=self.runtime.device,
        )
        return lambda args: run([*args[:3], *(tensor for group in args[3:] for tensor in group)])


def row_counts(most: int, rows: int) -> list[int]:
    """The numbers of rows that a step is compiled for: powers of two that cover up to `most`, within the `rows` there are."""
    counts: list[int] = []
    count = 2
    while not counts or counts[-1] < most:
        counts.append(min(count, rows))
        count *= 2
    return counts
