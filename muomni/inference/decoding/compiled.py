"""The Thinker executed by a compiled step (`compile=default|max`); the prefill stays eager.

    default   one token per call through torch.compile: compiled in seconds, again in every process
    max       up to TOKENS_PER_CALL tokens per call, an AOTInductor package kept in the user's cache (aot_cache.py)

On a GPU a call is recorded as a CUDA graph for each answer and replayed. The products of few rows on a CPU are C++ operators
(native/).

Shapes: B rows, n tokens a call, S slots.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni.inference.decoding.aot_cache import COMPILER, find_or_build, use_private_compiler_cache
from muomni.inference.decoding.compiled_step import DecodeStep, settings_tensor
from muomni.inference.decoding.generate import Decoder, TextDecoder, ends_text
from muomni.inference.decoding.runtime import Eager, Runtime
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import FEW_ROWS, for_few_rows
from muomni.inference.errors import InvalidOption
from muomni.inference.validation import require_one_of
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache

log = logging.getLogger(__name__)

MODES = ("none", "default", "max")
TOKENS_PER_CALL = 4
BLOCKS_PER_CALL = 48  # at most, over its tokens: compiling grows with the blocks, and a deep step hides the call's cost
SLOTS = 32  # attention covers a multiple of so many slots
RECOMPILE_LIMIT = 256  # compiled versions of the step, one per batch size, that torch.compile keeps in a process
SLOTS_AT, SEEN_AT, CACHE_AT = 3, 7, 8  # positions among the arguments of `DecodeStep.forward`; from the last on: lists
Call = Callable[[list[Any]], Tensor]
COMPILING = threading.RLock()  # of building steps, and of torch.compile, whose configuration is global


def make_runtime(thinker: Thinker, *, mode: str, packages: Path | None) -> Runtime:
    """The runtime for a mode of `MODES`. packages: the folder of compiled steps of "max", None is the user's cache. Raises
    ValueError for an unknown mode and for a Thinker that cannot be compiled."""
    require_one_of("compile", mode, MODES)
    if mode == "none":
        return Eager(thinker)
    check_traceable(thinker, mode=mode)
    return Compiled(thinker, mode=mode, packages=packages)


def check_traceable(thinker: Thinker, *, mode: str) -> None:
    """Raises InvalidOption for a Thinker that cannot be compiled."""
    if thinker.num_experts:
        raise InvalidOption(
            f"compile={mode}: torch cannot trace a mixture of experts: use compile=none for this Thinker",
            param="compile",
        )


def tokens_per_call(num_blocks: int) -> int:
    """Of a step of `max`."""
    return max(1, min(TOKENS_PER_CALL, BLOCKS_PER_CALL // num_blocks))


class RoomyCache(KVCache):
    """A cache of one of two fixed capacities, since a step is compiled for one. `needed`: the requested capacity."""

    needed: int


class Compiled(Eager):
    """A step for each batch size, compiled at first use; see the module."""

    def __init__(self, thinker: Thinker, *, mode: str, packages: Path | None) -> None:
        super().__init__(thinker)
        self.mode, self.packages = mode, packages
        self.count = tokens_per_call(len(thinker.transformer.blocks)) if mode == "max" else 1
        self.device = thinker.embedding.weight.device
        self.calls: dict[tuple[int, int], Call] = {}
        self.few: Thinker | None = None  # what computes up to FEW_ROWS

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """One row: capacity of the whole context; several: twice that, which left-padded rows may need."""
        context = self.thinker.max_length
        cache = self.thinker.new_cache(batch_size, max(capacity, context if batch_size == 1 else 2 * context))
        cache.__class__ = RoomyCache
        assert isinstance(cache, RoomyCache)
        cache.needed = max(capacity, context) if batch_size == 1 else capacity
        return cache

    def decoder(self, cache: KVCache, *, sampler: Sampler, padding: Tensor | None, timings: Timings) -> Decoder:
        """A decoder of `count` tokens per call; one by one, by the modules themselves, where fewer slots remain and for options
        that need the logits of each token."""
        eager = super().decoder(cache, sampler=sampler, padding=padding, timings=timings)
        assert isinstance(eager, TextDecoder)
        if sampler.options.needs_eager:
            return eager
        return CompiledDecoder(self, eager, padding=padding)

    def call(self, arguments: list[Any]) -> Call:
        """The compiled step for arguments like these."""
        key = (len(arguments[0]), arguments[CACHE_AT][0].shape[2])
        with COMPILING:
            if key not in self.calls:
                step = DecodeStep(self._weights(key[0]), count=self.count).eval()
                self.calls[key] = (self._package if self.mode == "max" else self._jit)(step, arguments)
            return self.calls[key]

    def _weights(self, batch: int) -> Thinker:
        if batch > FEW_ROWS:
            return self.thinker
        if self.few is None:
            self.few = for_few_rows(self.thinker)
        return self.few

    def _jit(self, step: DecodeStep, arguments: list[Any]) -> Call:
        use_private_compiler_cache()
        compiled = torch.compile(step, fullgraph=True, options=COMPILER)

        def call(arguments: list[Any]) -> Tensor:
            torch._dynamo.maybe_mark_dynamic(arguments[SLOTS_AT], 0)
            # To torch, all are versions of one function.
            with COMPILING, torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
                return compiled(*arguments)

        # torch compiles at the first call: do it now, not in the middle of an answer. It writes past the position only.
        log.info("compiling the decode step for this process; compile=max keeps it on the disk")
        start, seen = time.perf_counter(), arguments[SEEN_AT].clone()
        call([*(argument.clone() for argument in arguments[:SLOTS_AT]), *arguments[SLOTS_AT:]])
        arguments[SEEN_AT].copy_(seen)
        log.info("compiled in %.1f s", time.perf_counter() - start)
        return call

    def _package(self, step: DecodeStep, arguments: list[Any]) -> Call:
        capacity = arguments[CACHE_AT][0].shape[2]
        slots = torch.export.Dim("slots", min=2, max=capacity - 1)
        dynamic: list[Any] = [*[None] * CACHE_AT, *([None] * len(group) for group in arguments[CACHE_AT:])]
        dynamic[SLOTS_AT] = {0: slots}
        key = {
            "thinker": vars(self.thinker)["options"],
            "tensors": sorted((name, str(t.dtype), list(t.shape)) for name, t in step.state_dict().items()),
            "shape": [len(arguments[0]), capacity, self.count],
        }
        example_slots = torch.arange(min(2 * SLOTS, capacity - 1), device=self.device)
        example = [*arguments[:SLOTS_AT], example_slots, *arguments[SLOTS_AT + 1 :]]
        run = find_or_build(step, example, dynamic=dynamic, key=key, folder=self.packages, device=self.device)
        return lambda args: run([*args[:CACHE_AT], *(tensor for group in args[CACHE_AT:] for tensor in group)])[0]


class CompiledDecoder:
    """A `Decoder` of several tokens per call."""

    def __init__(self, runtime: Compiled, eager: TextDecoder, *, padding: Tensor | None) -> None:
        self.runtime, self.eager, self.cache = runtime, eager, eager.cache
        self.sampler, self.timings, device = eager.sampler, eager.timings, runtime.device
        batch, options = self.cache.keys.shape[1], self.sampler.options
        needed = self.cache.needed if isinstance(self.cache, RoomyCache) else self.cache.capacity
        self.slots = torch.arange(min(-(-needed // SLOTS) * SLOTS, self.cache.capacity - 1), device=device)
        vocab_size, seen = runtime.thinker.vocab_size, self.sampler.seen
        if seen is None:  # a step records its tokens whether or not there is a penalty
            seen = torch.zeros(batch, vocab_size, dtype=torch.bool, device=device)
            if options.repetition_penalty != 1:
                self.sampler.seen = seen
        self.fixed: list[Any] = [
            torch.zeros(batch, dtype=torch.long, device=device) if padding is None else padding,
            self.sampler.seeds(batch),
            settings_tensor(options, vocab_size=vocab_size).to(device),
            seen,
            list(self.cache.keys),
            list(self.cache.values),
            list(self.cache.inputs),
        ]
        #: Built now, not at the first token: building a package takes a minute, and is logged before the answer begins.
        self.call: Call | None = None
        if self._fits():
            tokens = torch.zeros(batch, dtype=torch.long, device=device)
            self.call = self._prepare(self._arguments(tokens))

    def __call__(self, tokens: Tensor) -> Tensor:
        """ids (B) -> the next ones (B, n)."""
        if self.call is None or not self._fits():
            return self.eager(tokens)
        count = self.runtime.count
        with self.timings.span("model"):
            chosen = self.call(self._arguments(tokens))
        self.cache.position += count
        self.sampler.rng_offset += count
        return chosen

    def _fits(self) -> bool:
        return self.cache.remaining > self.runtime.count  # a step cannot attend to the last slot

    def _arguments(self, tokens: Tensor) -> list[Any]:
        position, device = self.cache.position, self.runtime.device
        needed = -(-(position + self.runtime.count) // SLOTS) * SLOTS
        # Filled on the device: a copy of a number to it would wait.
        counters = [torch.full((), value, device=device) for value in (position, self.sampler.rng_offset)]
        slots = self.slots if device.type == "cuda" else self.slots[:needed]
        # A package assumes the strides of its example; torch.compile recompiles for tensors of inference mode.
        tokens = tokens.clone(memory_format=torch.contiguous_format)
        return [tokens, *counters, slots, *self.fixed]

    @torch.inference_mode()
    def _prepare(self, arguments: list[Any]) -> Call:
        with COMPILING:
            call = self.runtime.call(arguments)
            return record(call, arguments) if self.runtime.device.type == "cuda" else call

    def ended(self, tokens: Tensor) -> Tensor:
        """ids (B) -> (B) bool."""
        return ends_text(tokens)


def record(call: Call, arguments: list[Any]) -> Call:
    """A CUDA graph of a call: tokens and counters are copied into it, all other tensors must keep their memory.

    The warm-up calls write into the cache past its position only, and their tokens are dropped from `seen`.
    """
    static = [argument.clone() for argument in arguments[:SLOTS_AT]]
    inputs, seen = [*static, *arguments[SLOTS_AT:]], arguments[SEEN_AT].clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call(inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU meanwhile
        chosen = call(inputs)
    arguments[SEEN_AT].copy_(seen)

    def replay(current: list[Any]) -> Tensor:
        for buffer, value in zip(static, current[:SLOTS_AT], strict=True):
            buffer.copy_(value)
        graph.replay()
        return chosen.clone()

    return replay
