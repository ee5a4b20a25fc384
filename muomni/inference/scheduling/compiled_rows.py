"""The scheduler's steps compiled: one token of a single row, one token of any number of rows from 2 on, and a chunk of a prompt.

    default   by torch.compile when the scheduler starts, again in every process
    max       packages in the user's cache (decoding/aot_cache.py); missing ones are built when the scheduler starts
    auto      the same on a CPU, but missing ones are built meanwhile (background_build.py): steps are computed eagerly until they
              are there, in the middle of an answer if need be

A compiled step rounds differently from an eager one; where that could decide a token, replay.py decides it.

Shapes: n active rows, T tokens of a prompt, S slots, V vocabulary.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
from muomni.inference.decoding.weight_only import FEW_ROWS, for_few_rows, for_many_rows, weight_dtype
from muomni.inference.errors import MuomniError
from muomni.inference.scheduling.background_build import BackgroundBuild
from muomni.inference.scheduling.prompt_step import PromptStep
from muomni.inference.scheduling.rows_step import ChoosingStep
from muomni.inference.scheduling.slots import SlotCache
from muomni.inference.validation import require_one_of
from muomni.models.thinker import Thinker

log = logging.getLogger(__name__)

AUTO = "auto"
ONE, SEVERAL, PROMPT = "one", "several", "prompt"  # the steps: rows of those that decode
Call = Callable[[list[Any]], tuple[Tensor, Tensor]]
DYNAMIC = {  # positions, among the arguments of a step, of those of different lengths
    ONE: (2,),
    SEVERAL: (0, 1, 2),
    PROMPT: (0, 1, 2),
}
BUFFERS = 3  # the last arguments of a step: lists of keys, values and inputs
NOUNS = {ONE: "one row", SEVERAL: "several rows", PROMPT: "prompts"}
MIN_CHUNK = 2  # tokens of a prompt: torch.export takes a length of 1 for a constant


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
    """Callable: the last tokens of the active rows -> logits and greedy choices; `read`: a chunk of a prompt. `calls`: the steps
    that are there; "auto" adds to them from a thread of its own."""

    def __init__(self, thinker: Thinker, cache: SlotCache, *, mode: str, packages: Path | None, max_rows: int) -> None:
        self.cache, self.packages, self.device = cache, packages, cache.keys.device
        self.thinker, self.max_rows = thinker, max_rows
        self.names = (ONE, PROMPT) if max_rows == 1 else (ONE, SEVERAL, PROMPT)
        few, many = for_few_rows(thinker), for_many_rows(thinker)
        makers: dict[str, Callable[..., nn.Module]] = {
            ONE: partial(ChoosingStep, few),
            SEVERAL: partial(ChoosingStep, few if max_rows <= FEW_ROWS else many),
            PROMPT: partial(PromptStep, many),
        }
        self.steps = {name: makers[name](capacity=cache.capacity).eval() for name in self.names}
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
        slots = self._slots(max(lengths) + 1)
        if call is None or slots is None:
            return None
        ids, positions = torch.tensor([tokens, lengths]).to(self.device)
        return call([ids, positions, slots, *self.cache.layers])

    def read(self, ids: Tensor, row: int, begin: int, end: int) -> tuple[Tensor, Tensor] | None:
        """Append the tokens from `begin` to `end` of a prompt ids (T) to a row -> logits (1, V) and `greedy_choices` (1, 2) after
        the last of them; None as above. A single token is read with the one before it, once more."""
        call, slots = self.calls.get(PROMPT), self._slots(end)
        begin = max(0, min(begin, end - MIN_CHUNK))
        if call is None or slots is None or end - begin < MIN_CHUNK:
            return None
        tokens, index = ids[begin:end].to(self.device), torch.tensor([row], device=self.device)
        return call([tokens, self.cache.slots[begin:end], slots, index, *self.cache.layers])

    def _slots(self, count: int) -> Tensor | None:
        """The slots that a step covers for `count` tokens of a row; None: those cannot be covered."""
        return self.slots.get(-(-count // SLOTS) * SLOTS)

    def close(self) -> None:
        """End what is being built in the background."""
        if self.building is not None:
            self.building.stop()

    def _example(self, name: str) -> list[Any]:
        slots = self.slots[max(n for n in self.slots if n <= 2 * SLOTS)]
        if name == PROMPT:
            count = SLOTS // 2
            tokens, row = (torch.zeros(n, dtype=torch.long, device=self.device) for n in (count, 1))
            return [tokens, self.cache.slots[:count], slots, row, *self.cache.layers]
        rows = 1 if name == ONE else min(3, len(self.cache.lengths) - 1)
        tokens, positions = (torch.zeros(rows, dtype=torch.long, device=self.device) for _ in range(2))
        return [tokens, positions, slots, *self.cache.layers]

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
        if name == PROMPT:
            self.cache.written[0] = len(example[0])
        else:
            self.cache.written[: len(example[0])] = np.maximum(self.cache.written[: len(example[0])], 1)
        log.info("compiled the step of %s in %.1f s", NOUNS[name], time.perf_counter() - start)
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
        most = self.cache.capacity - 1 if name == PROMPT else len(self.cache.lengths)
        tokens = torch.export.Dim("tokens", min=2, max=most)
        slots = torch.export.Dim("slots", min=2, max=self.cache.capacity - 1)
        example, sizes = self._example(name), ({0: tokens}, {0: tokens}, {0: slots})
        run = find_or_build(
            self.steps[name],
            example,
            dynamic=[
                *(sizes[i] if i in DYNAMIC[name] else None for i in range(len(example) - BUFFERS)),
                *([None] * layers for _ in range(BUFFERS)),
            ],
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
            logits, greedy = run([*arguments[:-BUFFERS], *buffers])
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
