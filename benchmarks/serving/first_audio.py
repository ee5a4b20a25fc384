"""python -m benchmarks.serving.first_audio     how soon /v1/audio/speech is heard, and whether it continues without gaps

ckpt=DIR        an export with a Talker, default checkpoints/omni_sft
requests=20     one at a time; each another text
streams=4       requests at once, a quarter as many times
core=0          the processor core that the server may use; -1: all
serve=WORDS     further options of serve.py, separated by commas
machine=quiet   what else ran: busy, if anything did
out=FILE        the numbers as JSON, default reports/first_audio.json

Aims: the first byte within 250 ms, better 150, at the client; at `streams` requests no chunk later than the end of those before
it, for a listener who began with the first one. The server's processor time until the first byte hardly depends on what else
runs.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import numpy as np

from benchmarks.results import write_results
from benchmarks.serving.process import Process, ServerProcess, metrics
from muomni.cli.key_value import read_options, run_program
from muomni.serving.spoken import RATE

OWN = {
    "ckpt": "checkpoints/omni_sft",
    "requests": 20,
    "streams": 4,
    "core": 0,
    "serve": (),
    "machine": "quiet",
    "out": "reports/first_audio.json",
}
WORDS = (
    "the",
    "red",
    "blue",
    "circle",
    "square",
    "left",
    "of",
    "is",
    "two",
    "three",
    "big",
    "small",
    "who",
    "likes",
    "under",
)
BYTES_PER_SECOND = 2 * RATE


def texts(count: int, seed: int) -> list[str]:
    """Sentences of some three seconds."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=9)) + "." for _ in range(count)]


async def hear(client: aiohttp.ClientSession, text: str, *, model: str = "speech") -> tuple[list[float], list[float]]:
    """A text's speech -> for each chunk, seconds after the request until it came, and seconds of speech before it."""
    body = {"model": model, "input": text, "voice": "0", "response_format": "pcm"}
    came, before, received = [], [], 0
    begun = time.perf_counter()
    async with client.post("/v1/audio/speech", json=body) as answer:
        if answer.status != 200:
            raise ValueError(await answer.text())
        async for block in answer.content.iter_any():
            came.append(time.perf_counter() - begun)
            before.append(received / BYTES_PER_SECOND)
            received += len(block)
    return came, before


def lateness(came: Sequence[float], before: Sequence[float]) -> list[float]:
    """Of each chunk after the first: seconds that a listener waited for it, negative if it was early."""
    return [at - came[0] - played for at, played in zip(came[1:], before[1:], strict=True)]


async def first_chunk(client: aiohttp.ClientSession, text: str, process: Process) -> float:
    """Processor time of a server until the first chunk; the rest is not read."""
    before = process.cpu_seconds()
    body = {"model": "speech", "input": text, "voice": "0", "response_format": "pcm"}
    async with client.post("/v1/audio/speech", json=body) as answer:
        await answer.content.readany()
        return process.cpu_seconds() - before


async def _ask(server: ServerProcess, requests: int, streams: int) -> dict[str, Any]:
    async with aiohttp.ClientSession(server.url) as client:
        await hear(client, texts(1, seed=-1)[0])
        alone = [await hear(client, text) for text in texts(requests, seed=0)]
        cpu = []
        for text in texts(requests, seed=100):
            cpu.append(1000 * await first_chunk(client, text, server.process))
            await asyncio.sleep(0.2)  # until the server has noticed
        together = []
        for turn in range(max(1, requests // 4)):
            together += await asyncio.gather(*(hear(client, text) for text in texts(streams, seed=1 + turn)))
    return {
        "first_cpu_ms": statistics.median(cpu),
        "one stream": _summary(alone),
        f"{streams} streams": _summary(together),
    }


def _summary(heard: Sequence[tuple[list[float], list[float]]]) -> dict[str, Any]:
    firsts = [1000 * came[0] for came, _ in heard]
    waits = [wait for each in heard for wait in lateness(*each)]
    return {
        "requests": len(heard),
        "first_ms_p50": statistics.median(firsts),
        "first_ms_p95": float(np.percentile(firsts, 95)),
        "first_ms_best": min(firsts),
        "chunks": len(waits),
        "late": sum(wait > 0 for wait in waits),
        "latest_ms": 1000 * max(waits, default=0.0),
    }


def main(arguments: list[str]) -> None:
    options = read_options(arguments, OWN)
    cores = None if options["core"] < 0 else [options["core"]]
    words = ("names=[speech]", *options["serve"])
    with ServerProcess(options["ckpt"], *words, cores=cores) as server:
        cpu, begun = server.process.cpu_seconds(), time.monotonic()
        result = asyncio.run(_ask(server, options["requests"], options["streams"]))
        cpu, seconds = server.process.cpu_seconds() - cpu, time.monotonic() - begun
        spoken = metrics(server.url)["muomni_spoken_seconds_total"]
    result |= {"cpu_seconds_per_second_of_speech": cpu / spoken, "cores_used": cpu / seconds}
    for name, row in result.items():
        if isinstance(row, dict):
            print(
                f"{name}: first byte {row['first_ms_p50']:.0f} ms, p95 {row['first_ms_p95']:.0f} (aim 250, better 150); "
                f"{row['late']} of {row['chunks']} later chunks late, the latest by {row['latest_ms']:.0f} ms"
            )
    print(
        f"of the processor: {result['first_cpu_ms']:.0f} ms until the first byte, "
        f"{result['cpu_seconds_per_second_of_speech']:.2f} s for a second of speech"
    )
    write_results(options["out"], {"date": time.strftime("%Y-%m-%d"), "options": options, "results": result})


if __name__ == "__main__":
    run_program(main)
