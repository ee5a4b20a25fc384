"""python -m benchmarks.speed.decode     decoding compared with other engines: the same weights, one run, interleaved rounds.

Greedy continuations of random prompts by the Thinker's own modules (eager), compiled, packaged ahead of time (AOT), and with
smaller weights, by transformers' `generate` and by llama.cpp. Every float32 decoder must choose the eager one's tokens, and the
table says so. Ratios are medians over rounds in which all decoders took turns, so that a busy machine disturbs all alike.
The floor is what a token would take if only its weights were read: their bytes by the rate at which this very run reads as
many bytes.

    size=nano|tiny|small|base  batches=1,16  threads=1,2  prompt=32  new=256  rounds=15
    root=DIR        folder of compiled steps and GGUF files, default reports/decode
    out=FILE        the numbers as JSON
    more=true       also prefill, context length with and without cache, speech and its recognition, peak memory, and how far
                    int8 and llama.cpp's Q8_0 move the distribution of a trained Thinker (benchmarks/speed/decode_more.py)
    trained=EXPORT  whose Thinker that is; default: checkpoints/thinker where there is one
    memory=NAME     only the peak memory of one decoder
"""

import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from benchmarks.results import write_results
from benchmarks.speed import decode_more
from benchmarks.speed.baselines import INSTALL, Answer, LlamaCpp, Transformers, write_gguf
from muomni.cli.key_value import read_options, run_program
from muomni.inference.decoding.compiled import make_runtime
from muomni.inference.decoding.generate import decode, prefill
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.models.thinker import Thinker
from muomni.run.hardware import describe_machine
from muomni.special_tokens import PIECES

CONF = Path(__file__).resolve().parents[2] / "conf"
#: Our decoders: name -> compile=, dtype=.
OURS = {
    "eager": ("none", "float32"),
    "compiled": ("default", "float32"),
    "AOT": ("max", "float32"),
    "AOT bf16 weights": ("max", "bfloat16"),
    "AOT int8 weights": ("max", "int8"),
}
#: Our decoder, the peer that it is compared with, batch, and the aim, where there is one.
AIMS: list[tuple[str, str, int, float | None]] = [
    ("AOT", "llama.cpp f32", 1, 1.0),
    ("AOT int8 weights", "llama.cpp q8_0", 1, None),
    ("compiled", "llama.cpp f32", 16, 1.5),
    ("AOT", "llama.cpp f32", 16, 1.5),
    ("eager", "transformers", 1, 1.4),
    ("eager", "transformers", 16, 1.4),
]
OWN = {
    "size": "tiny",
    "batches": ("1", "16"),
    "threads": ("1", "2"),
    "prompt": 32,
    "new": 256,
    "rounds": 15,
    "root": "reports/decode",
    "out": "",
    "more": False,
    "trained": "",
    "memory": "",
}
EXACT = ("eager", "compiled", "AOT", "transformers", "llama.cpp f32")
Decoder = Callable[[Tensor, int], Answer]


class Ours:
    """A runtime as a contestant."""

    def __init__(self, thinker: Thinker, *, mode: str, packages: Path) -> None:
        self.runtime, self.thinker = make_runtime(thinker, mode=mode, packages=packages), thinker

    @torch.inference_mode()
    def __call__(self, ids: Tensor, new: int) -> Answer:
        """ids (B, T) -> N new tokens a row."""
        cache = self.runtime.new_cache(len(ids), ids.shape[1] + new)
        sampler = Sampler(preset("greedy"), device="cpu")
        start = time.perf_counter()
        first = sampler(prefill(self.thinker, ids, cache))
        between = time.perf_counter()
        decoder = self.runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
        tokens = torch.stack(list(decode(decoder, first, max_tokens=new)), dim=1)
        return Answer(tokens, between - start, time.perf_counter() - between)


def network(name: str, size: str) -> Any:
    """A network by its configuration, with random weights; a Thinker never chooses a special token: no decoder has to be told
    to leave them out."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["stage=omni_sft", f"size={size}"])
    torch.manual_seed(0)
    module = instantiate(cfg.backbone[name], _convert_="all").eval().requires_grad_(False)
    if name == "thinker":
        module.head.weight[: len(PIECES)] = 0
    return module


def make_thinker(size: str, dtype: str = "float32") -> Thinker:
    """A Thinker whose weights are kept in a dtype."""
    thinker: Thinker = network("thinker", size)
    set_weight_dtype(thinker, dtype)
    return thinker


def decode_alone(name: str, options: SimpleNamespace) -> None:
    """One decoder of batch 1, loaded and used: what its memory is measured by. Raises ModuleNotFoundError without it."""
    if name in OURS:
        mode, dtype = OURS[name]
        decoder: Decoder = Ours(make_thinker(options.size, dtype), mode=mode, packages=Path(options.root) / "compiled")
    elif name == "transformers":
        decoder = Transformers(make_thinker(options.size))
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


def contestants(options: SimpleNamespace, *, batch: int, threads: int) -> tuple[dict[str, Decoder], dict[str, str]]:
    """The decoders, and why others are absent."""
    size, root = options.size, Path(options.root)
    plain = make_thinker(size)
    there: dict[str, Decoder] = {}
    for name, (mode, dtype) in OURS.items():
        if batch == 1 or dtype == "float32":
            there[name] = Ours(make_thinker(size, dtype), mode=mode, packages=root / "compiled")
    absent: dict[str, str] = {}
    if plain.short_conv or plain.options.get("qk_norm"):
        unlike = f"size={size} is not of Llama's shape"
        return there, {"transformers": unlike, "llama.cpp f32": unlike, "llama.cpp q8_0": unlike}
    absent["transformers"] = missing("transformers")
    if not absent["transformers"]:
        there["transformers"] = Transformers(plain)
    for name, kind in (("llama.cpp f32", "F32"), ("llama.cpp q8_0", "Q8_0")):
        absent[name] = missing("llama_cpp", "gguf")
        if not absent[name]:
            path = root / f"{size}-{kind}.gguf"
            write_gguf(plain, path, kind)
            there[name] = LlamaCpp(
                path, batch=batch, context=plain.max_length, vocab_size=plain.vocab_size, threads=threads
            )
    return there, {name: why for name, why in absent.items() if why}


def weight_bytes(thinker: Thinker) -> int:
    """What decoding a token reads of the weights: all but the table of embeddings, of which it reads a row."""
    tensors = (tensor for name, tensor in thinker.state_dict().items() if not name.startswith("embedding."))
    return sum(tensor.nbytes for tensor in tensors)


def read_rate(count: int, rounds: int = 20) -> float:
    """Bytes a second at which `count` bytes of float32 are summed up, the best of several rounds."""
    numbers, best = torch.ones(count // 4), float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - start)
    return count / best


def race(options: SimpleNamespace, *, batch: int, threads: int) -> dict[str, Any]:
    """All decoders in turns -> rows by name, ratios of our decoders to their peers, the floor."""
    torch.set_num_threads(threads)
    os.sched_setaffinity(
        0, set(sorted(os.sched_getaffinity(0))[-threads:] if threads == 1 else os.sched_getaffinity(0))
    )
    decoders, absent = contestants(options, batch=batch, threads=threads)
    generator = torch.Generator().manual_seed(1)
    thinker = make_thinker(options.size)
    ids = torch.randint(len(PIECES), thinker.vocab_size, (batch, options.prompt), generator=generator)
    rows: dict[str, Any] = {}
    for name, decoder in decoders.items():
        start = time.perf_counter()
        rows[name] = {"tokens": decoder(ids, options.new).tokens, "ready_s": time.perf_counter() - start, "answers": []}
    for _ in range(options.rounds):
        for name, decoder in decoders.items():
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
    rate = read_rate(count)
    floor = {"weight_bytes": count, "gigabytes_per_second": rate / 1e9, "step_ms": 1000 * count / rate}
    return {"batch": batch, "threads": threads, "decoders": rows, "absent": absent, "ratios": ratios, "floor": floor}


def show(result: dict[str, Any]) -> str:
    """A race as a table."""
    floor = result["floor"]
    lines = [
        f"batch {result['batch']}, {result['threads']} thread(s); floor: {floor['weight_bytes'] / 1e6:.1f} MB of float32 weights "
        f"at {floor['gigabytes_per_second']:.1f} GB/s = {floor['step_ms']:.3f} ms a step",
        f"{'':18}{'ms a step':>10}{'best':>8}{'tokens/s':>10}{'x floor':>9}{'first ms':>10}{'prefill/s':>11}"
        f"{'ready s':>9}  tokens",
    ]
    for name, row in result["decoders"].items():
        same = row["same_tokens"]
        exact = "" if same is None else "those of eager" if same == 1 else f"{100 * same:.1f} % of eager's"
        lines.append(
            f"{name:18}{row['step_ms']:10.3f}{row['best_step_ms']:8.3f}{row['tokens_per_second']:10.0f}"
            f"{row['step_ms'] / floor['step_ms']:9.2f}{row['first_token_ms']:10.2f}{row['prefill_tokens_per_second']:11.0f}"
            f"{row['ready_s']:9.1f}  {exact}"
        )
    lines += [f"{name:18}{why}" for name, why in result["absent"].items()]
    for name, ratio in result["ratios"].items():
        aim = ratio["aim"]
        verdict = "" if aim is None else f", aim {aim:.1f} x {'reached' if ratio['ratio'] >= aim else 'missed'}"
        lines.append(f"{name}: {ratio['ratio']:.2f} x{verdict}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Race, print, write."""
    options = SimpleNamespace(**read_options(arguments, OWN))
    Path(options.root).mkdir(parents=True, exist_ok=True)
    if options.memory:
        torch.set_num_threads(1)
        print(decode_more.own_memory(lambda: decode_alone(options.memory, options)))
        return
    result: dict[str, Any] = {"date": date.today().isoformat(), "races": []}
    print(f"{result['date']}, {describe_machine()}")
    for threads in map(int, options.threads):
        for batch in map(int, options.batches):
            result["races"].append(race(options, batch=batch, threads=threads))
            print(show(result["races"][-1]) + "\n", flush=True)
    if options.more:
        more = decode_more.measure(options, network)
        print(decode_more.show(more))
        result |= more
    write_results(options.out, result)


if __name__ == "__main__":
    run_program(main)
