"""What else decoding is judged by: contexts, speech, recognition, memory, and the quality of small weights.

Shapes: B rows, T tokens, N samples, V vocabulary.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from benchmarks.results import table
from benchmarks.speed.decoders import INSTALL, Ours, make_thinker, network
from benchmarks.speed.steps import best_seconds, timed
from benchmarks.stages import compose_config
from muomni.checkpoints.export import load_export
from muomni.frontends.mel import LogMel
from muomni.inference.asr.recognizer import greedy_texts
from muomni.inference.decoding.int4 import Int4Linear
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import replace_linears, set_weight_dtype
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.speaker import Sentence, Speaker
from muomni.models.thinker import Thinker
from muomni.special_tokens import BOS

MEMORY = ("eager", "AOT", "AOT int8 weights", "AOT int4 weights", "transformers", "llama.cpp f32", "llama.cpp q8_0")
FRAMES = 100  # of an utterance: 8 s at 12.5 Hz
LLAMA_CPP = ("Q8_0", "Q4_0", "Q4_1")  # 34, 18 and 20 bytes for 32 numbers
SAMPLES, LENGTH = 32, 128  # texts of a trained Thinker's own on which distributions are compared


def measure(options: SimpleNamespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "contexts": contexts(make_thinker(options.size), options),
        "sound": sound(options.size),
        "peak_memory": memory(options),
        "small_weights": small_weights(options.trained),
    }


@torch.inference_mode()
def contexts(thinker: Thinker, options: SimpleNamespace) -> dict[str, dict[str, float]]:
    """Milliseconds a token at several lengths of what stands before it: eager, AOT, and without a cache."""
    found: dict[str, dict[str, float]] = {}
    modes, packages, new = {"eager": "none", "AOT": "max"}, Path(options.root) / "compiled", 32
    decoders = {name: Ours(thinker, mode=mode, packages=packages) for name, mode in modes.items()}
    for length in (32, 64, 128, 256, thinker.max_length - new - 1):
        ids = torch.arange(length)[None] % (thinker.vocab_size - 16) + 16
        row: dict[str, float] = {}
        for name, decoder in decoders.items():
            seconds = [decoder(ids, new).rest for _ in range(6)]
            row[name] = 1000 * min(seconds[1:]) / (new - 1)
        whole = "thinker(ids, last_only=True).logits.argmax(-1)"
        row["uncached"] = 1000 * best_seconds(whole, limit=0.1, thinker=thinker, ids=ids)
        found[str(length)] = row
    return found


@torch.inference_mode()
def sound(size: str) -> dict[str, float]:
    """Real-time factors (seconds of computing a second of sound) of the Talker and of greedy recognition."""
    cfg = compose_config("stage=omni_sft", f"size={size}")
    talker, codec, audio = (network(name, size) for name in ("talker", "codec", "audio"))
    talker.stop.bias.fill_(-1e4)  # so that every utterance has the same length
    speaker = Speaker(talker, codec, GriffinLim(instantiate(cfg.codec_mel), iterations=32))
    text, runs = "the red circle is above the blue square", []
    for _ in range(5):
        timings = Timings()
        speaker.speak([[Sentence(text, limit=FRAMES)]], voices=[0], timings=timings)
        runs.append(timings)
    frontend = LogMel(instantiate(cfg.mel))
    waveform = torch.randn(10 * 16000, generator=torch.Generator().manual_seed(0)) / 10
    _, seconds = timed(lambda x: greedy_texts(audio(frontend(x)[None])), [waveform] * 5)
    return {
        "talker_real_time_factor": statistics.median(run.speech / run.audio_seconds for run in runs),
        "talker_first_audio_ms": 1000 * statistics.median(run.first_audio for run in runs),
        "transcription_real_time_factor": statistics.median(seconds) / 10,
    }


def memory(options: SimpleNamespace) -> dict[str, float | str]:
    """MiB that loading and decoding adds at its peak to a process that has imported our modules, each in one of its own."""
    found: dict[str, float | str] = {}
    for name in MEMORY:
        words = [f"memory={name}", f"root={options.root}", f"size={options.size}"]
        command = [sys.executable, "-m", "benchmarks.speed.decode", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = done.stderr.strip().splitlines()[-1:] if done.returncode else done.stdout.strip().splitlines()[-1:]
        found[name] = " ".join(last) if done.returncode else float(json.loads(last[0]))
    return found


def own_memory(run: Callable[[], Any]) -> float:
    """MiB by which this process is larger at its peak during a call than before it."""

    def mebibytes(name: str) -> float:
        # Linux counts the peak from the start of the program; getrusage from its parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    before = mebibytes("VmRSS")
    run()
    return mebibytes("VmHWM") - before


def as_llama_cpp(thinker: Thinker, dtype: str) -> None:
    """Round the weights of a Thinker's linear layers as llama.cpp keeps them: 32 numbers share a half-precision scale, in
    Q4_1 also a minimum. The head has 8 bits at least, as in llama.cpp's own files."""
    import gguf

    for layer in thinker.modules():
        if isinstance(layer, torch.nn.Linear) and layer.in_features % 32 == 0:
            stored = gguf.GGMLQuantizationType["Q8_0" if layer is thinker.head else dtype]
            rounded = gguf.dequantize(gguf.quantize(layer.weight.numpy(), stored), stored)
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(rounded)))


def divergence(exact: Thinker, near: Thinker, ids: Tensor) -> dict[str, float]:
    """KL(exact || near) in nats a token, and how often both like the same token best, over ids (B, T)."""
    p, q = exact(ids).logits.double().log_softmax(-1), near(ids).logits.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    same = (p.argmax(-1) == q.argmax(-1)).double().mean()
    return {"kl": kl.mean().item(), "same_best": same.item()}


@torch.inference_mode()
def small_weights(trained: str) -> dict[str, Any] | str:
    """int8 and int4 as we compute them, llama.cpp's and half precision on texts that the trained Thinker itself draws."""
    if not trained and not Path("checkpoints/thinker/model.yaml").is_file():
        return "no trained Thinker: trained=EXPORT"
    trained = trained or "checkpoints/thinker"

    def load() -> Any:
        return load_export(trained, ["thinker"]).modules["thinker"].requires_grad_(False)

    exact = load()
    start = torch.full((SAMPLES, 1), BOS)
    sampled = preset("greedy", temperature=1.0, top_k=0)
    drawn = Ours(exact, mode="none", packages=Path(), options=sampled)(start, LENGTH - 1).tokens
    ids = torch.cat([start, drawn], dim=1)
    rows: dict[str, Any] = {"export": trained, "tokens": ids.numel()}
    for name in ("float16", "bfloat16", "int8", "int4"):
        near = load()
        set_weight_dtype(near, name)
        rows[name] = divergence(exact, near, ids)
    near = load()
    replace_linears(near, lambda layer: Int4Linear(layer.weight, layer.bias))
    rows["int4, the head too"] = divergence(exact, near, ids)
    for name in LLAMA_CPP:
        near, row = load(), f"llama.cpp {name.lower()} (weights alone)"
        if importlib.util.find_spec("gguf"):
            as_llama_cpp(near, name)
            rows[row] = divergence(exact, near, ids)
        else:
            rows[row] = f"not installed: {INSTALL['gguf']}"
    return rows


def show(more: dict[str, Any]) -> str:
    return "\n".join([
        "ms a token by length of the context, one thread",
        table([{"tokens": length, **row} for length, row in more["contexts"].items()]),
        *(f"{name.replace('_', ' ')}: {value:.3f}" for name, value in more["sound"].items()),
        "peak memory of loading and decoding one row, over a process that has imported everything of ours, MiB",
        table([{"decoder": name, "MiB": value} for name, value in more["peak_memory"].items()]),
        show_small_weights(more["small_weights"]),
    ])  # fmt: skip


def show_small_weights(found: dict[str, Any] | str) -> str:
    if isinstance(found, str):
        return f"small weights: {found}"
    lines = [f"KL to float32 in nats a token, {found['tokens']} tokens drawn from {found['export']}"]
    for name, row in found.items():
        if isinstance(row, dict):
            lines.append(f"{name:>32}  {row['kl']:.2e}, the same best token {100 * row['same_best']:.2f} %")
    return "\n".join(lines)
