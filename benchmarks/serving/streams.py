"""python -m benchmarks.serving.streams     tokens a second through HTTP at 1 to 8 streams, compared with the engine and llama.cpp

ckpt=DIR        an export with a Thinker, default checkpoints/omni_sft; a copy of it whose answers do not end is served
streams=1,2,4,8 requests at once
tokens=96       of each answer
rounds=7        all configurations take turns; medians are reported, and medians of the ratios of a round
serve=WORDS     further options of serve.py, separated by commas, default compile=max: nothing is compiled while it is measured
eager=false     true: also a server whose steps are not compiled, in turn with the other
llama=FILE      llama.cpp's llama-server (benchmarks/serving/llama_server.py: how to build it) with the same Thinker in float32;
                one with a short convolution, which Llama has not, is replaced by one without it, of random weights
machine=quiet   what else ran: busy, if anything did
out=FILE        the numbers as JSON, default reports/streams.json

Aims: 8 streams at least 3 x one, one stream at most 10 % slower than the engine in this process, llama.cpp at least 1.0 x. Each
server and the engine compute with one thread for the Thinker. `cpu ms` is the processor time of the server, or of the engine, for
a token: it hardly depends on what else runs.
"""

import asyncio
import functools
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import table, write_results
from benchmarks.serving.client import Call, call, session
from benchmarks.serving.llama_server import LlamaServer
from benchmarks.serving.process import ServerProcess
from muomni.checkpoints.export import load_export, save_export
from muomni.cli.key_value import read_options, run_program
from muomni.inference.decoding.options import preset
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.models.thinker import Thinker
from muomni.special_tokens import EOS, PIECES

OWN = {
    "ckpt": "checkpoints/omni_sft",
    "streams": (1, 2, 4, 8),
    "tokens": 96,
    "rounds": 7,
    "serve": ("compile=max",),
    "eager": False,
    "llama": "",
    "machine": "quiet",
    "out": "reports/streams.json",
}
PROMPT = "tell me about the big red circle"
AIMS = {"8 streams / 1": 3.0, "1 stream / engine": 0.9, "1 / llama.cpp": 1.0, "8 / llama.cpp": 1.0}


def endless(ckpt: str, folder: Path, *, plain: bool) -> Path:
    """A copy of an export whose answers do not end, in a folder. plain: its Thinker has Llama's shape, if need be with random
    weights."""
    source = load_export(ckpt)
    thinker: Any = source.modules["thinker"]
    if plain and thinker.short_conv:
        torch.manual_seed(0)
        thinker = source.modules["thinker"] = Thinker(**(thinker.options | {"short_conv": 0})).eval()
        with torch.no_grad():
            thinker.head.weight[: len(PIECES)] = 0.0  # so that it never chooses a special token
    with torch.no_grad():
        thinker.head.weight[EOS] = 0.0  # its logit is 0, the largest one never
    files = {"tokenizer.model": source.tokenizer_path}
    return save_export(folder / Path(ckpt).resolve().name, source.modules, files=files, metadata=source.metadata)


async def _answers(server: ServerProcess | LlamaServer, calls: list[Call]) -> tuple[int, float, float]:
    """Requests at once -> their tokens, seconds, and the median until the first piece."""
    async with session(server.url) as client:
        begun = time.perf_counter()
        outcomes = await asyncio.gather(*(call(client, each) for each in calls))
        seconds = time.perf_counter() - begun
    for each in outcomes:
        if each.error:
            raise ValueError(each.error)
    return sum(each.tokens for each in outcomes), seconds, statistics.median(each.first for each in outcomes)


def chat_call(model: str, text: str, tokens: int) -> Call:
    """A streamed greedy answer."""
    body = {
        "model": model, "messages": [{"role": "user", "content": text}], "stream": True, "temperature": 0,
        "stream_options": {"include_usage": True}, "max_completion_tokens": tokens,
    }  # fmt: skip
    return Call(kind="chat stream", path="/v1/chat/completions", body=body)


def by_engine(engine: Engine, text: str, tokens: int) -> tuple[int, float, float]:
    """As `_answers`, one answer."""
    begun = time.perf_counter()
    stream = engine.answer_stream(
        messages=[{"role": "user", "content": text}], generation=preset("greedy", max_new_tokens=tokens)
    )
    next(stream)
    first = time.perf_counter() - begun
    return stream.result().completion_tokens, time.perf_counter() - begun, first


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Tokens a second of every configuration, and the ratios that have aims."""
    torch.set_num_threads(1)
    runs: dict[str, list[dict[str, float]]] = {}

    def note(name: str, result: tuple[int, float, float], cpu: float) -> None:
        count, seconds, first = result
        row = {"tokens/s": count / seconds, "first ms": 1000 * first, "cpu ms": 1000 * cpu / count}
        runs.setdefault(name, []).append(row)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ckpt = endless(options["ckpt"], folder, plain=bool(options["llama"]))
        engine = load_model(str(ckpt), device="cpu")
        servers: dict[str, ServerProcess | LlamaServer] = {}
        servers["muomni"] = stack.enter_context(ServerProcess(str(ckpt), *options["serve"]))
        if options["eager"]:
            words = [word for word in options["serve"] if not word.startswith("compile=")]
            servers["eager"] = stack.enter_context(ServerProcess(str(ckpt), "compile=none", *words))
        if options["llama"]:
            most = max(options["streams"])
            llama = LlamaServer(options["llama"], engine, folder, streams=most)
            servers["llama.cpp"] = stack.enter_context(llama)
        for turn in range(-1, options["rounds"]):
            if turn == 0:
                runs.clear()  # the first was a warm-up
            cpu = time.process_time()
            result = by_engine(engine, f"{PROMPT} {turn}", options["tokens"])
            note("engine", result, time.process_time() - cpu)
            for count in options["streams"]:
                for name, each in servers.items():
                    texts = [
                        f"{PROMPT} {turn} {stream}" if count > 1 else f"{PROMPT} {turn}" for stream in range(count)
                    ]
                    make = each.call if isinstance(each, LlamaServer) else functools.partial(chat_call, ckpt.name)
                    calls = [make(text, options["tokens"]) for text in texts]
                    cpu = each.process.cpu_seconds()
                    result = asyncio.run(_answers(each, calls))
                    note(f"{name} {count}", result, each.process.cpu_seconds() - cpu)
    return {"configurations": _rows(runs), "ratios": _ratios(runs, max(options["streams"]))}


def _rows(runs: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    rows = []
    for name, measured in runs.items():
        median = {key: statistics.median(row[key] for row in measured) for key in measured[0]}
        rows.append({"configuration": name} | median)
    return rows


def _ratios(runs: dict[str, list[dict[str, float]]], most: int) -> dict[str, float]:
    """Medians of the rounds' ratios."""
    pairs = {
        f"{most} streams / 1": (f"muomni {most}", "muomni 1"),
        "1 stream / engine": ("muomni 1", "engine"),
        "1 / eager": ("muomni 1", "eager 1"),
        f"{most} / eager": (f"muomni {most}", f"eager {most}"),
        "1 / llama.cpp": ("muomni 1", "llama.cpp 1"),
        f"{most} / llama.cpp": (f"muomni {most}", f"llama.cpp {most}"),
    }
    ratios = {
        name: statistics.median(a["tokens/s"] / b["tokens/s"] for a, b in zip(runs[one], runs[other], strict=True))
        for name, (one, other) in pairs.items()
        if one in runs and other in runs
    }
    cpu = (a["cpu ms"] / b["cpu ms"] for a, b in zip(runs["muomni 1"], runs["engine"], strict=True))
    return ratios | {"cpu of 1 stream / engine": statistics.median(cpu)}


def main(arguments: list[str]) -> None:
    options = read_options(arguments, OWN)
    options["streams"] = tuple(int(count) for count in options["streams"])
    result = measure(options)
    print(table(result["configurations"]))
    for name, ratio in result["ratios"].items():
        aim = f" (aim {AIMS[name]})" if name in AIMS else ""
        print(f"{name}: x {ratio:.2f}{aim}")
    write_results(options["out"], {"date": time.strftime("%Y-%m-%d"), "options": options, "results": result})


if __name__ == "__main__":
    run_program(main)
