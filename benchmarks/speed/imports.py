"""python -m benchmarks.speed.imports     seconds and memory of importing a Hugging Face folder, against its size.

A folder of Llama's shape with random tensors in bfloat16 is written and imported by the very command, in a process of its own.

    gigabytes=1     size of its tensors
    folder=DIR      where it is written, and removed afterwards; default: a temporary folder
    rounds=3
    out=FILE        the numbers as JSON
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.results import table, write_results
from muomni.cli.key_value import read_options, run_program
from muomni.interop.hf.folder import CONFIG, INDEX
from muomni.interop.hf.thinker import to_hf
from muomni.models.thinker import Thinker

OWN: dict[str, Any] = {"gigabytes": 1.0, "folder": "", "rounds": 3, "out": ""}
SHAPE = {"dim": 1024, "num_heads": 16, "num_kv_heads": 4, "ff_dim": 4096, "vocab_size": 32_000, "max_length": 4096}
SHARDS = 4
#: The command, which says at its end how much memory it had at most.
COMMAND = """
import re, sys, time
import muomni.interop.hf.importing
from muomni.interop.hf.__main__ import main
memory = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before, start, used = memory(), time.perf_counter(), time.process_time()
main(sys.argv[1:])
print(time.perf_counter() - start, time.process_time() - used, before, memory())
"""


def write_folder(folder: Path, *, gigabytes: float) -> int:
    """A sharded folder of about that size; returns its tensors' bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    config, state = to_hf(Thinker(num_layers=1, **SHAPE))  # type: ignore[arg-type]
    layer = [key for key in state if ".layers." in key]
    outside = sum(state[key].numel() for key in state if key not in layer)
    count = max(1, round((gigabytes * 1e9 / 2 - outside) / sum(state[key].numel() for key in layer)))
    names = [key.replace(".layers.0.", f".layers.{n}.") for n in range(count) for key in layer]
    shapes = {name: state[re.sub(r"\.layers\.\d+\.", ".layers.0.", name)].shape for name in names}
    shapes |= {key: state[key].shape for key in state if key not in layer}
    generator = torch.Generator().manual_seed(0)
    found: dict[str, str] = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        mine = sorted(shapes)[shard::SHARDS]
        tensors: dict[str, Tensor] = {
            key: torch.empty(shapes[key]).uniform_(-0.02, 0.02, generator=generator).bfloat16() for key in mine
        }
        save_file(tensors, folder / file)
        found |= dict.fromkeys(mine, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": found}))
    (folder / CONFIG).write_text(json.dumps(config | {"num_hidden_layers": count}))
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    words.train_from_iterator(
        ["the cat"],
        trainers.BpeTrainer(
            show_progress=False, special_tokens=["</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    words.save(str(folder / "tokenizer.json"))
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def measure(folder: Path, *, size: int, rounds: int) -> list[dict[str, float]]:
    """Rounds of the import, each in a new process."""
    rows = []
    for number in range(rounds):
        out = folder / f"export{number}"
        words = [sys.executable, "-c", COMMAND, "import", str(folder), f"out={out}"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"the import failed: {done.stderr[-500:]}")
        seconds, busy, before, most = map(float, done.stdout.split()[-4:])
        shutil.rmtree(out)
        rows.append({
            "seconds": seconds, "of a processor": busy, "GB/s": size / 1e9 / seconds, "peak MB": most / 1024,
            "peak x size": 1024 * most / size, "without torch x size": 1024 * (most - before) / size,
        })  # fmt: skip
    return rows


def main(arguments: list[str]) -> None:
    """Write, import, remove."""
    options = read_options(arguments, OWN)
    with tempfile.TemporaryDirectory(dir=options["folder"] or None, prefix="hf-import-") as name:
        size = write_folder(Path(name), gigabytes=options["gigabytes"])
        rows = measure(Path(name), size=size, rounds=options["rounds"])
    print(f"{size / 1e9:.2f} GB in {SHARDS} files")
    print(table(rows))
    write_results(options["out"], {"bytes": size, "rounds": rows})


if __name__ == "__main__":
    run_program(main)
