"""python -m benchmarks.speed.growth     time and memory of a Thinker's training step as context, batch and width grow

    contexts=128,256,512,1024,2048  batches=1,2,4,8,16  widths=128,256,512,1024
    context=256  batch=4  width=256     of what does not grow
    layers=4  steps=3  threads=1        clock=wall|processor
    out=FILE        the numbers as JSON         plot=FILE.png

Each point is a process of its own, so that its peak memory is its own: what the step needs above what the program had before,
model and optimizer included. Not compiled; bfloat16 where the processor has it. "power": by which power of the size time or
memory grew since the point before; 1 is proportional.
"""

import math
import multiprocessing
import resource
import statistics
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.results import table, write_results
from benchmarks.speed.decoders import CLOCKS
from benchmarks.speed.steps import make_step
from muomni.cli.key_value import read_options, run_program
from muomni.inference.validation import require_one_of
from muomni.models.thinker import Thinker
from muomni.run.hardware import has_fast_bfloat16

OWN = {
    "contexts": ("128", "256", "512", "1024", "2048"), "batches": ("1", "2", "4", "8", "16"),
    "widths": ("128", "256", "512", "1024"), "context": 256, "batch": 4, "width": 256, "layers": 4, "steps": 3, "threads": 1,
    "clock": "wall", "out": "", "plot": "",
}  # fmt: skip
VOCAB, HEAD_DIM = 5000, 64
AXES = {"context": "contexts", "batch": "batches", "width": "widths"}
Row = dict[str, Any]


def peak_megabytes() -> float:
    """Most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train(options: Row) -> tuple[float, float]:
    """Train a Thinker -> milliseconds of a step, and megabytes above those of before."""
    before, width = peak_megabytes(), options["width"]
    torch.manual_seed(0)
    thinker = Thinker(
        vocab_size=VOCAB, dim=width, num_layers=options["layers"], num_heads=width // HEAD_DIM,
        num_kv_heads=width // HEAD_DIM, ff_dim=4 * width, max_length=options["context"],
    )  # fmt: skip
    ids = torch.randint(VOCAB, (options["batch"], options["context"] + 1))

    def loss(ids: Tensor) -> Tensor:
        return F.cross_entropy(thinker(ids[:, :-1]).logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    optimizer = torch.optim.AdamW(thinker.parameters(), lr=1e-4, fused=True)
    step, now, seconds = make_step(loss, optimizer, bf16=has_fast_bfloat16("cpu")), CLOCKS[options["clock"]], []
    for _ in range(options["steps"] + 1):
        start = now()
        step(ids)
        seconds.append(now() - start)
    return 1000 * statistics.median(seconds[1:]), peak_megabytes() - before


def _send(connection: Connection, options: Row) -> None:
    torch.set_num_threads(options["threads"])
    connection.send(train(options))


def alone(options: Row) -> tuple[float, float]:
    """`train` in a process of its own. Raises ValueError if it ends without a result, as where memory is short."""
    here, there = multiprocessing.Pipe(duplex=False)
    # Not a fork of this process: autograd may have started threads in it.
    process = multiprocessing.get_context("forkserver").Process(target=_send, args=(there, options))
    process.start()
    there.close()
    try:
        result: tuple[float, float] = here.recv()
    except EOFError:
        process.join()
        sizes = " ".join(f"{axis}={options[axis]}" for axis in AXES)
        raise ValueError(
            f"{sizes}: the process ended with exit code {process.exitcode}; a smaller size is needed"
        ) from None
    process.join()
    return result


def power(before: Row | None, size: int, key: str, value: float) -> float | None:
    """By which power of the size a value grew since the row before."""
    return None if before is None else math.log(value / before[key]) / math.log(size / before["size"])


def measure(options: Row) -> list[Row]:
    """A row a point, axis by axis."""
    rows: list[Row] = []
    for axis, key in AXES.items():
        before: Row | None = None
        for size in map(int, options[key]):
            ms, megabytes = alone(options | {axis: size})
            row = {
                "grows": axis, "size": size, "step_ms": ms, "time power": power(before, size, "step_ms", ms),
                "megabytes": megabytes, "memory power": power(before, size, "megabytes", megabytes),
            }  # fmt: skip
            rows.append(row)
            before = row
    return rows


def plot(rows: list[Row], path: str) -> None:
    """Time and memory against each size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(AXES), figsize=(12, 3.5), sharey=True, layout="constrained")
    for axis, name in zip(axes, AXES, strict=True):
        points = [row for row in rows if row["grows"] == name]
        sizes = [row["size"] for row in points]
        axis.loglog(sizes, [row["step_ms"] for row in points], "o-", label="ms a step")
        axis.loglog(sizes, [row["megabytes"] for row in points], "s--", label="megabytes")
        axis.set_xlabel(name)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main(arguments: list[str]) -> None:
    """Raises ValueError for widths that are no multiple of a head's."""
    options = read_options(arguments, OWN)
    require_one_of("clock", options["clock"], CLOCKS)
    for width in (options["width"], *map(int, options["widths"])):
        if width < HEAD_DIM or width % HEAD_DIM:
            raise ValueError(f"width={width}: a multiple of {HEAD_DIM} is needed, the width of a head")
    rows = measure(options)
    print(table(rows))
    if options["plot"]:
        plot(rows, options["plot"])
    write_results(options["out"], {"options": options, "rows": rows})


if __name__ == "__main__":
    run_program(main)
