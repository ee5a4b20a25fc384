"""python -m benchmarks.serving.scheduler     tokens per second of the scheduler at 1 to 8 streams, compared with the engine.

ckpt=DIR        an export with a Thinker, default checkpoints/omni_sft
streams=1,2,4,8 requests at once
tokens=64       of each answer; none ends before
prompt=TEXT     the question; each stream appends its number
temperature=0   of the sampling
rounds=5        the configurations take turns; medians are reported
threads=N       default: torch's own
compile=MODE    of the scheduler's steps: none, default, max
out=FILE        the numbers as JSON, default reports/scheduler.json
"""

import functools
import queue
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.results import write_results
from muomni.cli.key_value import read_options, run_program
from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.special_tokens import EOS

OWN = {
    "ckpt": "checkpoints/omni_sft",
    "streams": (1, 2, 4, 8),
    "tokens": 64,
    "prompt": "tell me about the big red circle",
    "temperature": 0.0,
    "rounds": 5,
    "threads": 0,
    "compile": "none",
    "out": "reports/scheduler.json",
}


def by_engine(engine: Engine, prompt: str, options: GenerationOptions) -> tuple[int, float]:
    """One answer by the engine -> its tokens, and the seconds until its first piece."""
    start = time.perf_counter()
    stream = engine.answer_stream(prompt, generation=options)
    next(stream)
    first = time.perf_counter() - start
    return stream.result().completion_tokens, first


def by_scheduler(scheduler: Scheduler, prompts: list[str], options: GenerationOptions) -> tuple[int, float]:
    """Answers at once -> their tokens, and the median seconds until the first piece."""
    items: queue.SimpleQueue[tuple[int, float, Any]] = queue.SimpleQueue()
    start = time.perf_counter()
    for index, prompt in enumerate(prompts):

        def emit(item: Any, index: int = index) -> None:
            items.put((index, time.perf_counter() - start, item))

        scheduler.submit(Request(text=prompt), options, emit=emit, client=str(index))
    firsts: dict[int, float] = {}
    tokens, left = 0, len(prompts)
    while left:
        index, seconds, item = items.get()
        firsts.setdefault(index, seconds)
        if isinstance(item, Exception):
            raise item
        if hasattr(item, "completion_tokens"):
            tokens, left = tokens + item.completion_tokens, left - 1
    return tokens, statistics.median(firsts.values())


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Median tokens per second and first-token milliseconds by configuration."""
    engine = load_model(options["ckpt"], device="cpu")
    never_end(engine)
    chosen = preset("greedy", max_new_tokens=options["tokens"], temperature=options["temperature"])
    scheduler = Scheduler(engine, slots=max(options["streams"]), compile=options["compile"])
    runs: dict[str, Callable[[int], tuple[int, float]]] = {
        "engine": lambda turn: by_engine(engine, f"{options['prompt']} {turn}", chosen)
    }
    for count in options["streams"]:
        runs[f"scheduler {count}"] = functools.partial(
            lambda count, turn: by_scheduler(
                scheduler, [f"{options['prompt']} {turn} {stream}" for stream in range(count)], chosen
            ),
            count,
        )
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(-1, options["rounds"]):
        for name, run in runs.items():
            start = time.perf_counter()
            tokens, first = run(turn)
            if turn >= 0:  # the first is a warm-up
                seconds[name].append((tokens / (time.perf_counter() - start), first))
    scheduler.close(grace=0)
    return {
        name: {
            "tokens_per_second": statistics.median(rate for rate, _ in measured),
            "first_ms": 1000 * statistics.median(first for _, first in measured),
        }
        for name, measured in seconds.items()
    }


def never_end(engine: Engine) -> None:
    """Zero the head's weights of the end token, so that all answers are equally long: its logit is 0, the largest one never."""
    with torch.no_grad():
        engine.require_prompter().thinker.head.weight[EOS] = 0.0


def main(arguments: list[str]) -> None:
    options = read_options(arguments, OWN)
    options["streams"] = tuple(int(count) for count in options["streams"])
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    results = measure(options)
    one = results[f"scheduler {options['streams'][0]}"]["tokens_per_second"]
    for name, result in results.items():
        print(
            f"{name:12} {result['tokens_per_second']:8.1f} tokens/s  x {result['tokens_per_second'] / one:.2f}  "
            f"first piece {result['first_ms']:.1f} ms"
        )
    write_results(options["out"], {"threads": torch.get_num_threads(), "options": options, "results": results})


if __name__ == "__main__":
    run_program(main)
