"""python -m benchmarks.speed.small_states     what training a Thinker takes: all weights or adapters, states of 32 bits or of 8.

    sizes=nano,tiny,smollm2   smollm2: SmolLM2-135M's shape, of which only memory is counted
    ways=adamw,muon,adamw8bit,lora,dora,lora8bit
    rank=8                    of the adapters, on all layers of the blocks
    steps=6                   that are timed, the ways in turns on the same batches, after two; 0: memory alone
    rows=4 length=256         of the batches of random tokens
    learn=0                   steps that each way trains on the texts of root=DIR, for the loss of the validation split
    seeds=0                   of these trainings
    out=reports/small_states.json

Bytes are those of the optimizer's tensors once it has stepped (of what is not timed, as computed before). Time is the process's
own on one thread, the median of the steps.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from benchmarks.results import table, write_results
from benchmarks.speed.steps import make_step
from benchmarks.stages import build_stage, compose_config, draw
from callbacks.estimate import optimizer_bytes
from muomni.batch import TextBatch
from muomni.checkpoints.assembly import outline
from muomni.cli.key_value import run_program, split_options

SMOLLM2 = {
    "vocab_size": 49152, "dim": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "ff_dim": 1536,
    "max_length": 2048, "tied": True,
}  # fmt: skip
#: Way -> optim=, adapter=.
WAYS = {
    "adamw": ("adamw", None), "muon": ("muon", None), "adamw8bit": ("adamw8bit", None), "lora": ("adamw", "lora"),
    "dora": ("adamw", "dora"), "lora8bit": ("adamw8bit", "lora"),
}  # fmt: skip
OWN = {
    "sizes": ("nano", "tiny", "smollm2"), "ways": tuple(WAYS), "rank": 8, "steps": 6, "rows": 4, "length": 256, "learn": 0,
    "seeds": ("0",), "root": ".", "out": "reports/small_states.json",
}  # fmt: skip
Row = dict[str, Any]


def words_of(way: str, rank: int) -> list[str]:
    """The words of train.py for one way."""
    optimizer, adapter = WAYS[way]
    words = ["stage=thinker", f"optim={optimizer}"]
    return [*words, f"adapter={adapter}", f"adapter.rank={rank}"] if adapter else words


def make_stage(cfg: Any, *, model: Any = None) -> Any:
    """The Thinker's stage without data, with adapters where the configuration has some. model: in place of a new one."""
    given = {"model": model} if model is not None else {}
    stage = instantiate(cfg.module, _convert_="all", **given)(
        tokenizer="tokenizer.model", tokenizer_fingerprint="none", decode=str
    )
    return adapted(cfg, stage)


def adapted(cfg: Any, stage: Any) -> Any:
    """The stage, with adapters where the configuration has some."""
    if cfg.get("adapter"):
        instantiate(cfg.adapter).apply(stage)
    return stage.train()


def batches(cfg: Any, rows: int, length: int, count: int) -> list[TextBatch]:
    """Of random tokens."""
    torch.manual_seed(1)
    found = []
    for _ in range(count):
        ids = torch.randint(16, cfg.backbone.thinker.vocab_size, (rows, length + 1))
        found.append(
            TextBatch(
                ids=ids[:, :-1],
                targets=ids[:, 1:],
                lengths=torch.full((rows,), length),
                document_types=["text"] * rows,
                floors=torch.zeros(rows),
                sample_ids=[str(row) for row in range(rows)],
            )
        )
    return found


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of the tensors of an optimizer's state."""
    return sum(each.nbytes for state in optimizer.state.values() for each in state.values() if isinstance(each, Tensor))


def measure(size: str, options: dict[str, Any], rest: list[str]) -> list[Row]:
    """A row a way: what learns, bytes, and milliseconds of a step."""
    rows, steps = list[Row](), {}
    timed = options["steps"] if size != "smollm2" else 0
    for way in options["ways"]:
        cfg = compose_config(*words_of(way, options["rank"]), f"size={'nano' if size == 'smollm2' else size}", *rest)
        torch.manual_seed(0)
        if size == "smollm2":
            with torch.device("meta"):
                stage = make_stage(
                    cfg, model=outline({"part": "thinker", "options": SMOLLM2}, tensors=None, where=size)
                )
        else:
            stage = make_stage(cfg)
        optimizer = stage.configure_optimizers()["optimizer"]
        trained = sum(p.numel() for p in stage.parameters() if p.requires_grad)
        rows.append({"size": size, "way": way, "trained": trained, "state_bytes": optimizer_bytes(optimizer)})
        if timed:
            steps[way] = stage, optimizer, make_step(lambda b, s=stage: s.total_loss(s.step(b)), optimizer, bf16=False)
    taken: dict[str, list[float]] = {way: [] for way in steps}
    for number, batch in enumerate(batches(cfg, options["rows"], options["length"], timed + 2 if timed else 0)):
        for way, (_, _, step) in steps.items():
            start = time.process_time()
            step(batch)
            if number >= 2:
                taken[way].append(time.process_time() - start)
    for row in rows:
        if row["way"] in steps:
            row["state_bytes"] = state_bytes(steps[row["way"]][1])
            row["step_ms"] = 1000 * statistics.median(taken[row["way"]])
        row["state_percent"] = 100 * row["state_bytes"] / rows[0]["state_bytes"]
        if "step_ms" in rows[0]:
            row["step_percent"] = 100 * row["step_ms"] / rows[0]["step_ms"]
    return rows


def learnt(way: str, seed: str, options: dict[str, Any], rest: list[str]) -> Row:
    """The loss of the first four batches of the validation split after `learn` steps on texts, as train.py takes them."""
    words = [*words_of(way, options["rank"]), f"seed={seed}", f"trainer.max_steps={options['learn']}"]
    cfg = compose_config(*words, f"paths.root={options['root']}", *rest)
    stage, datamodule = build_stage(cfg)
    adapted(cfg, stage)
    made = stage.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    step = make_step(lambda batch: stage.total_loss(stage.step(batch)), optimizer, bf16=False)
    start = time.process_time()
    for _, batch in zip(range(options["learn"]), draw(datamodule), strict=False):
        step(batch)
        schedule.step()
    seconds = time.process_time() - start
    stage.eval()
    with torch.no_grad():
        losses = [float(stage.total_loss(stage.step(batch))) for batch in _first(datamodule.val_dataloader(), 4)]
    return {
        "way": way,
        "seed": seed,
        "steps": options["learn"],
        "val_loss": statistics.mean(losses),
        "seconds": seconds,
    }


def _first(loader: Any, count: int) -> Iterator[Any]:
    yield from (batch for _, batch in zip(range(count), loader, strict=False))


def main(arguments: list[str]) -> None:
    options, rest = split_options(arguments, OWN)
    unknown = sorted(set(options["ways"]) - set(WAYS))
    if unknown:
        raise ValueError(f"ways={unknown[0]}: available are {', '.join(WAYS)}")
    torch.set_num_threads(1)
    rows = [row for size in options["sizes"] for row in measure(size, options, rest)]
    print(table(rows))
    result: dict[str, Any] = {"options": options, "overrides": rest, "ways": rows}
    if options["learn"]:
        result["learnt"] = [learnt(way, seed, options, rest) for seed in options["seeds"] for way in options["ways"]]
        print(table(result["learnt"]))
    write_results(options["out"], result)


if __name__ == "__main__":
    run_program(main)
