"""python -m benchmarks.speed.decode     decoding compared with other engines: the same weights, one run, interleaved rounds.

Greedy continuations of random prompts by the Thinker's own modules (eager), compiled, packaged ahead of time (AOT), and with
smaller weights, by transformers' `generate` and by llama.cpp. Every float32 decoder must choose the eager one's tokens, and the
table says so. Ratios are medians over rounds in which all decoders took turns, so that a busy machine disturbs all alike.
The floor is what a token would take if only its weights were read: their bytes by the rate at which this very run reads as
many bytes.

    size=nano|tiny|small|base|smollm2-135m  batches=1,16  threads=1,2  prompt=32  new=256  rounds=15
    root=DIR        folder of compiled steps and GGUF files, default reports/decode
    out=FILE        the numbers as JSON
    more=true       also prefill, context length with and without cache, speech and its recognition, peak memory, and how far
                    int8, int4, llama.cpp's Q8_0, Q4_0 and Q4_1 move the distribution of a trained Thinker
                    (benchmarks/speed/decode_more.py)
    kl=true         only the last of these
    trained=EXPORT  whose Thinker that is; default: checkpoints/thinker where there is one
    clock=wall|processor    the latter where others use the machine
    only=a,b        these decoders alone, eager among them
    memory=NAME     only the peak memory of one decoder
"""

import importlib.util
import os
import statistics
import time
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.results import table, write_results
from benchmarks.speed import decode_more, decoders
from benchmarks.speed.decoders import CLOCKS, INSTALL, Decoder, LlamaCpp, Ours, Transformers, make_thinker, write_gguf
from benchmarks.speed.steps import best_seconds
from muomni.cli.key_value import read_options, run_program
from muomni.inference.validation import require_one_of
from muomni.run.hardware import describe_machine
from muomni.special_tokens import PIECES

#: Our decoders: name -> compile=, dtype=.
OURS = {
    "eager": ("none", "float32"),
    "compiled": ("default", "float32"),
    "AOT": ("max", "float32"),
    "AOT bf16 weights": ("max", "bfloat16"),
    "AOT int8 weights": ("max", "int8"),
    "AOT int4 weights": ("max", "int4"),
}
#: transformers' decoders: name -> its cache.
TRANSFORMERS = {"transformers": "dynamic", "transformers static": "static"}
#: Our decoder, the peer that it is compared with, batch, and the aim, where there is one.
AIMS: list[tuple[str, str, int, float | None]] = [
    ("AOT", "llama.cpp f32", 1, 1.2),
    ("AOT int8 weights", "llama.cpp q8_0", 1, 1.1),
    ("compiled", "llama.cpp f32", 16, 1.5),
    ("AOT", "llama.cpp f32", 16, 2.5),
    ("eager", "transformers", 1, 1.4),
    ("eager", "transformers", 16, 1.4),
    ("eager", "transformers static", 1, 0.95),
]
OWN = {
    "size": "tiny", "batches": ("1", "16"), "threads": ("1", "2"), "prompt": 32, "new": 256, "rounds": 15,
    "root": "reports/decode", "out": "", "more": False, "kl": False, "trained": "", "only": (), "clock": "wall", "memory": "",
}  # fmt: skip
EXACT = ("eager", "compiled", "AOT", *TRANSFORMERS, "llama.cpp f32")


def ours(name: str, options: SimpleNamespace) -> Decoder:
    mode, dtype = OURS[name]
    return Ours(make_thinker(options.size, dtype), mode=mode, packages=Path(options.root) / "compiled")


def decode_alone(name: str, options: SimpleNamespace) -> None:
    """One decoder of batch 1, loaded and used: what its memory is measured by. Raises ModuleNotFoundError without it."""
    if name in OURS:
        decoder: Decoder = ours(name, options)
    elif name in TRANSFORMERS:
        decoder = Transformers(make_thinker(options.size), cache=TRANSFORMERS[name])
    else:
        path = Path(options.root) / f"{options.size}-{'F32' if 'f32' in name else 'Q8_0'}.gguf"
        decoder = LlamaCpp(path, batch=1, context=512, vocab_size=5000, threads=1)
    decoder(torch.arange(options.prompt)[None] + len(PIECES), options.new)


def missing(*modules: str) -> str:
    """How to install the first of these that is not there, or nothing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"not installed: {INSTALL[module]}"
    return ""


def wanted(name: str, options: SimpleNamespace) -> bool:
    """Whether a decoder takes part."""
    return not options.only or name in options.only


def contestants(options: SimpleNamespace, *, batch: int, threads: int) -> tuple[dict[str, Decoder], dict[str, str]]:
    """The decoders, and why others are absent."""
    size, root = options.size, Path(options.root)
    plain = make_thinker(size)
    there: dict[str, Decoder] = {}
    for name, (_, dtype) in OURS.items():
        if (batch == 1 or dtype == "float32") and wanted(name, options):
            there[name] = ours(name, options)
    absent: dict[str, str] = {}
    if plain.short_conv or plain.options.get("qk_norm"):
        unlike = f"size={size} is not of Llama's shape"
        return there, {"transformers": unlike, "llama.cpp f32": unlike, "llama.cpp q8_0": unlike}
    for name, cache in TRANSFORMERS.items():
        if wanted(name, options):
            absent[name] = missing("transformers")
            if not absent[name]:
                there[name] = Transformers(plain, cache=cache)
    shape = {"batch": batch, "context": plain.max_length, "vocab_size": plain.vocab_size, "threads": threads}
    for name, dtype in (("llama.cpp f32", "F32"), ("llama.cpp q8_0", "Q8_0")):
        if not wanted(name, options):
            continue
        absent[name] = missing("llama_cpp", "gguf")
        if not absent[name]:
            path = root / f"{size}-{dtype}.gguf"
            write_gguf(plain, path, dtype)
            there[name] = LlamaCpp(path, **shape)
    return there, {name: why for name, why in absent.items() if why}


def weight_bytes(thinker: torch.nn.Module) -> int:
    """What decoding a token reads of the weights: all but the table of embeddings, of which it reads a row."""
    tensors = (tensor for name, tensor in thinker.state_dict().items() if not name.startswith("embedding."))
    return sum(tensor.nbytes for tensor in tensors)


def race(options: SimpleNamespace, *, batch: int, threads: int) -> dict[str, Any]:
    """All decoders in turns -> rows by name, ratios of our decoders to their peers, the floor."""
    torch.set_num_threads(threads)
    if threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    taking_part, absent = contestants(options, batch=batch, threads=threads)
    generator = torch.Generator().manual_seed(1)
    thinker = make_thinker(options.size)
    ids = torch.randint(len(PIECES), thinker.vocab_size, (batch, options.prompt), generator=generator)
    rows: dict[str, Any] = {}
    for name, decoder in taking_part.items():
        start = time.perf_counter()
        rows[name] = {"tokens": decoder(ids, options.new).tokens, "ready_s": time.perf_counter() - start, "answers": []}
    for _ in range(options.rounds):
        for name, decoder in taking_part.items():
            rows[name]["answers"].append(decoder(ids, options.new))
    expected, per_step = rows["eager"]["tokens"], options.new - 1
    times: dict[str, list[float]] = {}
    for name, row in rows.items():
        answers = row.pop("answers")
        times[name] = [answer.rest / per_step for answer in answers]
        same = (row.pop("tokens") == expected).float().mean().item()
        row["same_tokens"] = same if name in EXACT else None
        row["step_ms"] = 1000 * statistics.median(times[name])
        row["best_step_ms"] = 1000 * min(times[name])
        row["tokens_per_second"] = batch / statistics.median(times[name])
        row["first_token_ms"] = 1000 * statistics.median(answer.first for answer in answers)
        row["prefill_tokens_per_second"] = 1000 * batch * options.prompt / row["first_token_ms"]
    ratios = {
        f"{ours} / {peer}": {
            "ratio": statistics.median(b / a for a, b in zip(times[ours], times[peer], strict=True)),
            "aim": aim,
        }
        for ours, peer, of, aim in AIMS
        if of == batch and ours in times and peer in times
    }
    count = weight_bytes(thinker)
    rate = count / best_seconds("numbers.sum()", clock=CLOCKS[options.clock], numbers=torch.ones(count // 4))
    floor = {"weight_bytes": count, "gigabytes_per_second": rate / 1e9, "step_ms": 1000 * count / rate}
    return {"batch": batch, "threads": threads, "decoders": rows, "absent": absent, "ratios": ratios, "floor": floor}


def show(result: dict[str, Any]) -> str:
    floor, rows = result["floor"], []
    for name, row in result["decoders"].items():
        same = row["same_tokens"]
        exact = None if same is None else "eager's" if same == 1 else f"{100 * same:.1f} % of eager's"
        rows.append({
            "decoder": name, "ms a step": row["step_ms"], "best": row["best_step_ms"], "tokens/s": row["tokens_per_second"],
            "x floor": row["step_ms"] / floor["step_ms"], "first ms": row["first_token_ms"],
            "prefill/s": row["prefill_tokens_per_second"], "ready s": row["ready_s"], "tokens": exact,
        })  # fmt: skip
    lines = [
        f"batch {result['batch']}, {result['threads']} thread(s); floor: {floor['weight_bytes'] / 1e6:.1f} MB of float32 weights "
        f"at {floor['gigabytes_per_second']:.1f} GB/s = {floor['step_ms']:.3f} ms a step",
        table(rows),
        *(f"{name:18}{why}" for name, why in result["absent"].items()),
    ]
    for name, ratio in result["ratios"].items():
        aim = ratio["aim"]
        verdict = "" if aim is None else f", aim {aim:.1f} x {'reached' if ratio['ratio'] >= aim else 'missed'}"
        lines.append(f"{name}: {ratio['ratio']:.2f} x{verdict}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    options = SimpleNamespace(**read_options(arguments, OWN))
    require_one_of("clock", options.clock, decoders.CLOCKS)
    decoders.clock = options.clock
    Path(options.root).mkdir(parents=True, exist_ok=True)
    if options.memory:
        torch.set_num_threads(1)
        print(decode_more.own_memory(lambda: decode_alone(options.memory, options)))
        return
    result: dict[str, Any] = {"date": date.today().isoformat(), "races": []}
    print(f"{result['date']}, {describe_machine()}")
    if options.kl:
        torch.set_num_threads(1)
        found = decode_more.small_weights(options.trained)
        print(decode_more.show_small_weights(found))
        write_results(options.out, {"date": result["date"], "small_weights": found})
        return
    for threads in map(int, options.threads):
        for batch in map(int, options.batches):
            result["races"].append(race(options, batch=batch, threads=threads))
            print(show(result["races"][-1]) + "\n", flush=True)
    if options.more:
        more = decode_more.measure(options)
        print(decode_more.show(more))
        result |= more
    write_results(options.out, result)


if __name__ == "__main__":
    run_program(main)
