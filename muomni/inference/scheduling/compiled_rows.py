"""The scheduler's step compiled: once for a single row, and once for any number of rows from 2 on.

    default   by torch.compile when the scheduler starts, again in every process
    max       packages in the user's cache (decoding/aot_cache.py); missing ones are built when the scheduler starts
    auto      the same on a CPU, but missing ones are built meanwhile (background_build.py): steps are computed eagerly until they
              are there, in the middle of an answer if need be

A compiled step rounds differently from an eager one; where that could decide a token, replay.py decides it.

Shapes: n active rows, S slots, V vocabulary.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni.inference.decoding.aot_cache import COMPILER, find, find_or_build, use_private_compiler_cache
from muomni.inference.decoding.compiled import (
    COMPILING,
    MODES,
    RECOMPILE_LIMIT,
    SLOTS,
    Compiled,
    check_traceable,
)
from muomni.inference.decoding.runtime import Runtime
from muomni.inference.decoding.weight_only import for_one_row, weight_dtype
from muomni.inference.errors import MuomniError
from muomni.inference.scheduling.background_build import BackgroundBuild
from muomni.inference.scheduling.rows_step import ChoosingStep
from muomni.inference.scheduling.slots import SlotCache
from muomni.inference.validation import require_one_of
from muomni.models.thinker import Thinker

log = logging.getLogger(__name__)

AUTO = "auto"
ONE, SEVERAL = "one", "several"  # rows of a step
Call = Callable[[list[Any]], tuple[Tensor, Tensor]]
DYNAMIC = {ONE: (2,), SEVERAL: (0, 1, 2)}  # positions, among the arguments of a step, of those of different lengths


def compile_rows(
    thinker: Thinker, runtime: Runtime, cache: SlotCache, *, mode: str | None, packages: Path | None, max_rows: int
) -> "CompiledRows | None":
    """The compiled steps of a mode, None if steps are computed eagerly. mode: None is that of the engine's runtime.

    Raises MuomniError for an unknown mode, and for one other than "auto" that this Thinker or machine cannot have.
    """
    if mode is None:
        mode, packages = (runtime.mode, runtime.packages) if isinstance(runtime, Compiled) else ("none", None)
    require_one_of("compile", mode, (AUTO, *MODES))
    if mode == "none" or cache.capacity <= SLOTS:  # a step covers fewer slots than there are
        return None
    if mode == AUTO:
        if cache.keys.device.type != "cpu" or thinker.num_experts:
            return None
    else:
        check_traceable(thinker, mode=mode)
    return CompiledRows(thinker, cache, mode=mode, packages=packages, max_rows=max_rows)


class CompiledRows:
    """Callable: the last tokens of the active rows -> logits and greedy choices. `calls`: the steps that are there, by their
    rows; "auto" adds to them from a thread of its own."""

    def __init__(self, thinker: Thinker, cache: SlotCache, *, mode: str, packages: Path | None, max_rows: int) -> None:
        self.cache, self.packages, self.device = cache, packages, cache.keys.device
        self.thinker, self.max_rows = thinker, max_rows
        self.names = (ONE,) if max_rows == 1 else (ONE, SEVERAL)
        self.steps = {
            name: ChoosingStep(for_one_row(thinker) if name == ONE else thinker, capacity=cache.capacity).eval()
            for name in self.names
        }
        self.calls: dict[str, Call] = {}
        self.slots = {covered: cache.slots[:covered] for covered in range(SLOTS, cache.capacity, SLOTS)}
        self.building: BackgroundBuild | None = None
        if mode == AUTO:
            self._start()
        else:
            make = self._package if mode == "max" else self._jit
            for name in self.names:
                self.calls[name] = make(name)

    def __call__(self, tokens: list[int], lengths: list[int]) -> tuple[Tensor, Tensor] | None:
        """The last tokens of the first n rows, which hold `lengths` tokens -> logits (n, V), `greedy_choices` (n, 2); None where
        there is no step yet, or it covers too few slots: it is computed eagerly."""
        call = self.calls.get(SEVERAL if len(tokens) > 1 else ONE)
        covered = -(-(max(lengths) + 1) // SLOTS) * SLOTS
        if call is None or covered >= self.cache.capacity:
            return None
        ids, positions = (torch.tensor(numbers, device=self.device) for numbers in (tokens, lengths))
        return call([ids, positions, self.slots[covered], *self.cache.layers])

    def close(self) -> None:
        """End what is being built in the background."""
        if self.building is not None:
            self.building.stop()

    def _example(self, name: str) -> list[Any]:
        rows = 1 if name == ONE else min(3, len(self.cache.lengths) - 1)
        tokens, positions = (torch.zeros(rows, dtype=torch.long, device=self.device) for _ in range(2))
        return [tokens, positions, self.slots[max(n for n in self.slots if n <= 2 * SLOTS)], *self.cache.layers]

    # --- torch.compile -----------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _jit(self, name: str) -> Call:
        use_private_compiler_cache()
        compiled = torch.compile(self.steps[name], fullgraph=True, options=COMPILER)

        def call(arguments: list[Any]) -> tuple[Tensor, Tensor]:
            for index in DYNAMIC[name]:
                torch._dynamo.maybe_mark_dynamic(arguments[index], 0)
            with COMPILING, torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
                chosen: tuple[Tensor, Tensor] = compiled(*arguments)
            return chosen

        start = time.perf_counter()
        example = self._example(name)
        call(example)  # torch compiles now, not in the middle of an answer
        self.cache.written[: len(example[0])] = 1
        log.info("compiled the step of %s in %.1f s", _rows(name), time.perf_counter() - start)
        return call

    # --- packages ----------------------------------------------------------------------------------------------

    def _key(self, name: str) -> dict[str, Any]:
        return {
            "thinker": vars(self.thinker)["options"],
            "tensors": sorted((each, str(t.dtype), list(t.shape)) for each, t in self.steps[name].state_dict().items()),
            "rows": [name, *self.cache.keys.shape],
        }

    def _package(self, name: str) -> Call:
        layers = len(self.cache.layers[0])
        rows = torch.export.Dim("rows", min=2, max=len(self.cache.lengths))
        slots = torch.export.Dim("slots", min=2, max=self.cache.capacity - 1)
        sizes = {0: {0: rows}, 1: {0: rows}, 2: {0: slots}}
        run = find_or_build(
            self.steps[name],
            self._example(name),
            dynamic=[*(sizes[i] if i in DYNAMIC[name] else None for i in sizes), *([None] * layers for _ in range(3))],
            key=self._key(name),
            folder=self.packages,
            device=self.device,
        )
        return self._flat(run)

    def _load(self) -> bool:
        """Use the packages that are there; True if all are."""
        for name in self.names:
            if name not in self.calls:
                run = find(self.steps[name], key=self._key(name), folder=self.packages, device=self.device)
                if run is not None:
                    self.calls[name] = self._flat(run)
        return len(self.calls) == len(self.names)

    def _flat(self, run: Callable[[list[Tensor]], list[Tensor]]) -> Call:
        buffers = [tensor for group in self.cache.layers for tensor in group]

        def call(arguments: list[Any]) -> tuple[Tensor, Tensor]:
            logits, greedy = run([*arguments[:3], *buffers])
            return logits, greedy

        return call

    def _start(self) -> None:
        """Load the packages, and have missing ones built."""
        try:
            complete = self._load()
        except MuomniError as error:
            log.warning("answers are computed without compilation: %s", error)
            return
        if not complete:
            wanted = {
                "options": vars(self.thinker)["options"],
                "dtype": weight_dtype(self.thinker),
                "rows": len(self.cache.lengths),
                "max_rows": self.max_rows,
                "packages": None if self.packages is None else str(self.packages),
                "threads": torch.get_num_threads(),
            }
            self.building = BackgroundBuild(wanted, built=self._load)


def _rows(name: str) -> str:
    return "one row" if name == ONE else "several rows"
