"""python -m benchmarks.serving.load     many clients at once: is every answer that of its single run, how fast, how much memory

ckpt=DIR        an export, default checkpoints/omni_sft; embeddings by the folder vision next to it, if there is one
clients=32      each sends a request, reads its answer, and pauses
seconds=300     of the load
think=0         mean pause of a client in seconds, exponentially distributed; 0: none, so that the server is never idle
distinct=8      requests of each group, each computed once by the engine before
tokens=32       most of an answer
idle=3          rounds over all requests, one at a time, before the load: the idle server's times
serve=WORDS     further options of serve.py, separated by commas: slots=32,jobs=1
seed=0
machine=quiet   what else ran: busy, if anything did
out=FILE        the numbers as JSON, default reports/load.json

Exit code 1 if an answer differs from its single run, or a request fails. A 429 with Retry-After is neither: the client waits.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch

from benchmarks.results import table, write_results
from benchmarks.serving.client import Outcome, call, session
from benchmarks.serving.mixture import Case, Mixture
from benchmarks.serving.process import Process, ServerProcess, metrics
from muomni.checkpoints.export import is_export
from muomni.cli.key_value import read_options, run_program
from muomni.inference.embedding import Embedder
from muomni.inference.load import load_model

OWN = {
    "ckpt": "checkpoints/omni_sft",
    "clients": 32,
    "seconds": 300.0,
    "think": 0.0,
    "distinct": 8,
    "tokens": 32,
    "idle": 3,
    "serve": (),
    "seed": 0,
    "machine": "quiet",
    "out": "reports/load.json",
}
WARM_UP = 0.2  # of the time: memory that is taken in it is not growth
SAMPLE_SECONDS = 0.5  # between two readings of the memory
EXAMPLES = 10  # wrong answers that are reported whole


@dataclass
class Record:
    """What all clients have seen."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[dict[str, str]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    refused: int = 0

    def add(self, case: Case, outcome: Outcome) -> None:
        """Compare an answer with its single run."""
        self.requests += 1
        self.refused += outcome.refused
        if outcome.value is None:
            self.errors[outcome.error] += 1
        elif outcome.value != case.expected:
            shown = {"group": case.group, "got": repr(outcome.value)[:200], "expected": repr(case.expected)[:200]}
            self.wrong.append(shown)
        else:
            self.outcomes[case.group].append(outcome)


async def one_by_one(url: str, cases: Sequence[Case], *, rounds: int) -> Record:
    """Every request `rounds` times with nothing else to do."""
    record = Record()
    async with session(url) as client:
        for _ in range(rounds):
            for case in cases:
                record.add(case, await call(client, case.call))
    return record


async def at_once(url: str, cases: Sequence[Case], *, clients: int, seconds: float, think: float, seed: int) -> Record:
    """All clients until the time is over; the answers of requests sent before are read to their end."""
    record, weights = Record(), [case.weight for case in cases]
    deadline = time.monotonic() + seconds

    async def one(client: aiohttp.ClientSession, own: random.Random) -> None:
        while True:
            if think:
                await asyncio.sleep(own.expovariate(1 / think))
            if time.monotonic() >= deadline:
                return
            (case,) = own.choices(cases, weights)
            record.add(case, await call(client, case.call, patience=own))

    async with session(url) as client:
        await asyncio.gather(*(one(client, random.Random(f"{seed} {index}")) for index in range(clients)))
    return record


async def watched(process: Process, work: Any) -> tuple[Any, list[tuple[float, float]]]:
    """The result of `work`, and (seconds, MiB) of a process meanwhile."""
    readings, begun = [], time.monotonic()
    task = asyncio.ensure_future(work)
    while not task.done():
        readings.append((time.monotonic() - begun, process.memory()))
        await asyncio.wait({task}, timeout=SAMPLE_SECONDS)
    return task.result(), readings


def memory_growth(readings: Sequence[tuple[float, float]]) -> dict[str, float]:
    """A line through (seconds, MiB) after the warm-up: its slope for an hour, and what was taken in all."""
    times, values = (np.array(column) for column in zip(*readings, strict=True))
    after = times >= WARM_UP * times[-1]
    slope = float(np.polyfit(times[after], values[after], 1)[0]) if after.sum() > 2 else 0.0
    settled = float(values[after][0])
    return {
        "before_mib": float(values[0]),
        "settled_mib": settled,
        "end_mib": float(values[-1]),
        "growth_percent": 100 * (float(values[-1]) / settled - 1),
        "peak_percent": 100 * (float(values[after].max()) / settled - 1),
        "slope_mib_per_hour": 3600 * slope,
        "slope_percent_per_hour": 100 * 3600 * slope / settled,
    }


def percentile(values: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * float(np.percentile(values, 100 * share)) if values else float("nan")


def by_group(idle: Record, loaded: Record) -> list[dict[str, Any]]:
    """Times of each group: until the first piece of streamed answers, and until the end."""
    rows = []
    for group in idle.outcomes:
        before, during = idle.outcomes[group], loaded.outcomes.get(group, [])
        streamed = bool(before[0].pieces)
        row: dict[str, Any] = {"group": group, "count": len(during)}
        for name, outcomes in (("idle", before), ("load", during)):
            row[f"{name} p50 ms"] = percentile([each.seconds for each in outcomes], 0.5)
            row[f"{name} p95 ms"] = percentile([each.seconds for each in outcomes], 0.95)
            row[f"first {name} p95"] = percentile([each.first for each in outcomes], 0.95) if streamed else None
        rows.append(row)
    return rows


def first_pieces(record: Record) -> list[float]:
    """Seconds until the first piece of all streamed answers."""
    return [each.first for outcomes in record.outcomes.values() for each in outcomes if each.pieces]


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    torch.set_num_threads(1)
    ckpt = Path(options["ckpt"])
    towers = ckpt.resolve().parent / "vision"
    engine = load_model(str(ckpt), device="cpu")
    embedder = Embedder(towers, device="cpu") if is_export(towers) else None
    model = ckpt.resolve().stem
    mixture = Mixture(
        engine, embedder, model=model, tokens=options["tokens"], distinct=options["distinct"], seed=options["seed"]
    )
    cases = mixture.cases()
    with ServerProcess(options["ckpt"], *options["serve"]) as server:
        idle = asyncio.run(one_by_one(server.url, cases, rounds=options["idle"]))
        before, cpu, begun = metrics(server.url), server.process.cpu_seconds(), time.monotonic()
        own = {name: options[name] for name in ("clients", "seconds", "think", "seed")}
        loaded, readings = asyncio.run(watched(server.process, at_once(server.url, cases, **own)))
        seconds, cpu = time.monotonic() - begun, server.process.cpu_seconds() - cpu
        after = metrics(server.url)
    made = {name: after[name] - before[name] for name in after if name.endswith("_total")}
    rows = by_group(idle, loaded)
    print(table(rows))
    quiet, busy = first_pieces(idle), first_pieces(loaded)
    ratio = percentile(busy, 0.95) / percentile(quiet, 0.95)
    return {
        "distinct_requests": len(cases),
        "start_seconds": server.start_seconds,
        "requests": loaded.requests,
        "refused_429": loaded.refused,
        "wrong": (idle.wrong + loaded.wrong)[:EXAMPLES],
        "wrong_count": len(idle.wrong) + len(loaded.wrong),
        "errors": dict(idle.errors + loaded.errors),
        "requests_per_second": loaded.requests / seconds,
        "tokens_per_second": made["muomni_generated_tokens_total"] / seconds,
        "speech_seconds_per_second": made["muomni_spoken_seconds_total"] / seconds,
        "cpu_cores_used": cpu / seconds,
        "first_ms": {
            "idle_p50": percentile(quiet, 0.5),
            "idle_p95": percentile(quiet, 0.95),
            "load_p50": percentile(busy, 0.5),
            "load_p95": percentile(busy, 0.95),
            "p95_ratio": ratio,
        },
        "memory": memory_growth(readings),
        "memory_mib": [[round(at, 1), round(mib, 1)] for at, mib in readings[:: max(1, len(readings) // 60)]],
        "groups": rows,
    }


def main(arguments: list[str]) -> int:
    options = read_options(arguments, OWN)
    result = measure(options)
    first, memory = result["first_ms"], result["memory"]
    print(
        f"{result['requests']} requests, {result['requests_per_second']:.1f} a second, "
        f"{result['tokens_per_second']:.0f} tokens/s, "
        f"429: {result['refused_429']}, wrong: {result['wrong_count']}, errors: {sum(result['errors'].values())}\n"
        f"first piece p95 {first['load_p95']:.0f} ms, idle {first['idle_p95']:.0f} ms: x {first['p95_ratio']:.1f} (aim 3)\n"
        f"memory after a fifth of the time {memory['settled_mib']:.0f} MiB, at the end {memory['end_mib']:.0f}: "
        f"{memory['growth_percent']:+.1f} % (aim 5; at most {memory['peak_percent']:+.1f} %), "
        f"{memory['slope_percent_per_hour']:+.1f} % an hour"
    )
    for wrong in result["wrong"]:
        print(f"wrong: {wrong}")
    for error, count in result["errors"].items():
        print(f"error x {count}: {error}")
    write_results(options["out"], {"date": time.strftime("%Y-%m-%d"), "options": options, "results": result})
    return int(bool(result["wrong_count"] or result["errors"]))


if __name__ == "__main__":
    run_program(main)
