"""python -m benchmarks.speed.training     training tokens a second of the tiny Thinker and peers of the same shape, in one run.

    rows=8 length=512 rounds=8 threads=1        only=a,b        precision=auto|bf16|fp32
    out=FILE        the numbers as JSON

The shape is the reference's: width 256, 4 layers, 4 heads, vocabulary 5000, untied head. Peers: HF's LlamaForCausalLM (the same
layers, 6.76 M parameters) and nanoGPT's model as its repository writes it (LayerNorm, GELU, learned positions; its MLP widened
so that the parameters are as many). All are compiled, take the same ids, the same fused AdamW and the same clipping, in bfloat16
where the processor has it, else in float32. One process trains them in turn, step by step; processor time and wall time are both
taken, medians shown. MFU is the share of the rate of a large matrix product measured in the same run, by operations counted.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import table, write_results
from benchmarks.speed.steps import gemm_rate, make_step
from benchmarks.stages import compose_config
from muomni.batch import TextBatch
from muomni.cli.key_value import read_options, run_program
from muomni.run.hardware import has_fast_bfloat16

OWN = {"rows": 8, "length": 512, "rounds": 8, "threads": 1, "only": (), "precision": "auto", "out": ""}
VOCAB, DIM, LAYERS, HEADS, FF = 5000, 256, 4, 4, 1024
AIM = 1.15  # times the strongest peer
Loss = Callable[[Tensor, Tensor], Tensor]


class NanoGPTBlock(nn.Module):
    """As nanoGPT's model.py: LayerNorm, fused qkv, flash attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(DIM, bias=False), nn.LayerNorm(DIM, bias=False)
        self.c_attn, self.c_proj = nn.Linear(DIM, 3 * DIM, bias=False), nn.Linear(DIM, DIM, bias=False)
        hidden = FF * 3 // 2  # two matrices with as many numbers as SwiGLU's three
        self.c_fc, self.c_proj2 = nn.Linear(DIM, hidden, bias=False), nn.Linear(hidden, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (p.view(B, T, HEADS, C // HEADS).transpose(1, 2) for p in self.c_attn(self.ln_1(x)).split(DIM, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.c_proj2(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """Token and position embeddings, blocks, final norm, untied head; returns the loss."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, DIM), nn.Embedding(length, DIM)
        self.h = nn.ModuleList(NanoGPTBlock() for _ in range(LAYERS))
        self.ln_f, self.lm_head = nn.LayerNorm(DIM, bias=False), nn.Linear(DIM, VOCAB, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, VOCAB), targets.view(-1), ignore_index=-1)


def nanogpt(length: int) -> tuple[nn.Module, Loss]:
    model = NanoGPT(length)
    return model, torch.compile(model)


def hf_llama(length: int) -> tuple[nn.Module, Loss]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=DIM, intermediate_size=FF, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, max_position_embeddings=length, tie_word_embeddings=False, rms_norm_eps=1e-5,
        use_cache=False,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    model = LlamaForCausalLM(config)
    compiled = torch.compile(model)
    return model, lambda ids, targets: compiled(input_ids=ids, labels=ids, shift_labels=targets).loss


def muomni(length: int) -> tuple[nn.Module, Loss]:
    """The stage as train.py builds it, `size=tiny experiment=reference compile=true`."""
    cfg = compose_config("stage=thinker", "size=tiny", "experiment=reference", "compile=true")
    stage = instantiate(cfg.module, _convert_="all")(tokenizer=Path("none"), tokenizer_fingerprint="", decode=str)
    stage.setup("fit")

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        lengths = torch.full((len(ids),), length)
        return stage.total_loss(stage.step(TextBatch(ids, targets, lengths, [], torch.empty(0), [])))

    return stage.model, loss


BUILD: dict[str, Callable[[int], tuple[nn.Module, Loss]]] = {"muomni": muomni, "hf_llama": hf_llama, "nanogpt": nanogpt}


class Run:
    """One model in training: `step` trains on a batch, and notes seconds of processor and of the wall."""

    def __init__(self, name: str, *, length: int, bf16: bool) -> None:
        torch.manual_seed(0)
        self.model, loss = BUILD[name](length)
        self.model.train()
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)
        self._step = make_step(loss, optimizer, bf16=bf16)
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def step(self, ids: Tensor, targets: Tensor) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        self._step(ids, targets)
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)


def count_operations(ids: Tensor, targets: Tensor) -> int:
    """Of one step of the reference's shape, by torch's counter, eagerly."""
    model = NanoGPT(ids.shape[1])
    with FlopCounterMode(display=False) as counter:
        model(ids, targets).backward()
    return counter.get_total_flops()


def measure(options: dict[str, Any]) -> dict[str, Any]:
    rows, length, rounds = options["rows"], options["length"], options["rounds"]
    bf16 = has_fast_bfloat16("cpu") if options["precision"] == "auto" else options["precision"] == "bf16"
    torch.manual_seed(1)
    tokens = torch.randint(VOCAB, (rows, length + 1))
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    names = list(options["only"] or BUILD)
    runs = {name: Run(name, length=length, bf16=bf16) for name in names}
    for name, run in runs.items():
        start = time.perf_counter()
        run.step(ids, targets)
        run.step(ids, targets)
        print(f"{name}: compiled in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        run.cpu.clear()
        run.wall.clear()
    rates = []
    for number in range(rounds):
        rates.append(gemm_rate(seconds=0.2))
        for name in names[number % len(names) :] + names[: number % len(names)]:
            runs[name].step(ids, targets)
    operations, rate = count_operations(ids, targets), max(rates)
    models = {}
    for name, run in runs.items():
        cpu, wall = statistics.median(run.cpu), statistics.median(run.wall)
        models[name] = {
            "parameters": sum(p.numel() for p in run.model.parameters()),
            "tokens_per_cpu_second": rows * length / cpu,
            "tokens_per_second": rows * length / wall,
            "mfu": operations / cpu / rate / 1e9,
        }
    precision = "bf16" if bf16 else "fp32"
    return {"precision": precision, "rows": rows, "length": length, "gemm_gflops": rate, "models": models}


def main(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore")
    options = read_options(arguments, OWN)
    torch.set_num_threads(options["threads"])
    result = measure(options)
    models = result["models"]
    print(
        f"tiny Thinker, {result['rows']} x {result['length']}, {result['precision']}, compiled, {options['threads']} thread(s); "
        f"large matrix product: {result['gemm_gflops']:.0f} GFLOP/s"
    )
    print(table([{"model": name, **row} for name, row in models.items()]))
    peers = {name: row["tokens_per_cpu_second"] for name, row in models.items() if name != "muomni"}
    if peers and "muomni" in models:
        strongest = max(peers, key=peers.__getitem__)
        result["ratio"] = models["muomni"]["tokens_per_cpu_second"] / peers[strongest]
        print(f"muomni is {result['ratio']:.2f} x the strongest peer ({strongest}); aim {AIM:.2f} x")
    write_results(options["out"], result)


if __name__ == "__main__":
    run_program(main)
