"""python -m benchmarks.quality.quantizers     how well codebooks learn, next to vector-quantize-pytorch's ResidualVQ

    steps=300  batch=400    vectors a step, as of a batch of the codec of waveforms
    dim=64  codebooks=6  entries=256  decay=0.98  idle=0.1  seed=0
    out=FILE                the numbers as JSON

Both quantise the same batches, with codebooks that follow averages of the same decay, and are measured on the same vectors that
neither has learned from: what is left of their energy, in percent; entries in use of the least used codebook; seconds of
the processor a step. The vectors are of 64 clusters in a space whose directions fade, as latents of speech do. The peer renews
entries by its own rule: idle ones of fewer than two in the average (its default), started by k-means. Optional: pip install
vector-quantize-pytorch.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import table, write_results
from benchmarks.speed.kernel_rows.contest import missing
from muomni.cli.key_value import read_options, run_program
from muomni.nn.rvq import ResidualQuantizer

OWN = {
    "steps": 300, "batch": 400, "dim": 64, "codebooks": 6, "entries": 256, "decay": 0.98, "idle": 0.1, "seed": 0, "out": "",
}  # fmt: skip
CLUSTERS, HELD_OUT = 64, 8000
#: vectors (1, N, D) -> what stands for them, (1, N, D), and the codes (1, N, K).
Quantize = Callable[[Tensor], tuple[Tensor, Tensor]]


def source(dim: int, seed: int) -> Callable[[int], Tensor]:
    """How many -> so many new vectors (N, D)."""
    generator = torch.Generator().manual_seed(seed)
    fade = torch.linspace(0, 3, dim).neg().exp()
    centres = torch.randn(CLUSTERS, dim, generator=generator) * fade
    return lambda count: (
        centres[torch.randint(CLUSTERS, (count,), generator=generator)]
        + 0.5 * torch.randn(count, dim, generator=generator) * fade
    )


def quantizers(cfg: dict[str, Any]) -> dict[str, tuple[torch.nn.Module, Quantize]]:
    """By name: the module and what it does, ours and, where it is installed, the peer's."""
    ours = ResidualQuantizer(
        dim=cfg["dim"], num_codebooks=cfg["codebooks"], codebook_size=cfg["entries"], decay=cfg["decay"], dropout=0.0,
        idle=cfg["idle"],
    )  # fmt: skip

    def own(x: Tensor) -> tuple[Tensor, Tensor]:
        output = ours(x, keep=None)
        return output.quantized, output.codes

    found: dict[str, tuple[torch.nn.Module, Quantize]] = {"muomni": (ours, own)}
    if not missing("vector_quantize_pytorch"):
        from vector_quantize_pytorch import ResidualVQ

        peer = ResidualVQ(
            dim=cfg["dim"], codebook_size=cfg["entries"], num_quantizers=cfg["codebooks"], decay=cfg["decay"], kmeans_init=True,
            threshold_ema_dead_code=2,
        )  # fmt: skip
        found["vector-quantize-pytorch"] = (peer, lambda x: peer(x)[:2])
    return found


@torch.no_grad()
def learned(module: torch.nn.Module, quantize: Quantize, batches: list[Tensor], held_out: Tensor) -> dict[str, Any]:
    """A row of the table."""
    module.train()
    start = time.process_time()
    for batch in batches:
        quantize(batch)
    seconds = (time.process_time() - start) / len(batches)
    module.eval()
    vectors, codes = (each[0] for each in quantize(held_out))
    used = [len(codes[:, k].unique()) for k in range(codes.shape[1])]
    left = 100 * float((held_out[0] - vectors).square().sum() / held_out.square().sum())
    return {"left %": left, "entries used": min(used), "ms a step": 1000 * seconds}


def main(arguments: list[str]) -> None:
    cfg = read_options(arguments, OWN)
    torch.set_num_threads(1)
    torch.manual_seed(cfg["seed"])
    draw = source(cfg["dim"], cfg["seed"])
    batches, held_out = [draw(cfg["batch"])[None] for _ in range(cfg["steps"])], draw(HELD_OUT)[None]
    rows = [{"quantizer": name, **learned(*pair, batches, held_out)} for name, pair in quantizers(cfg).items()]
    print(table(rows))
    write_results(cfg["out"], {"options": cfg, "rows": rows})


if __name__ == "__main__":
    run_program(main)
