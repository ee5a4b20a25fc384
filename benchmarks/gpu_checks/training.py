"""Training on a GPU: every stage for ten steps in both half precisions, the Thinker's MFU, and the attention kernels it reaches.

Legend: B rows, T tokens.
"""

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from torch import Tensor

import train
from benchmarks.gpu_checks.measuring import Row, Shapes, row, seconds_of
from benchmarks.stages import STAGES, build_stage, compose_config
from muomni.batch import TextBatch
from muomni.nn.masks import SegmentMask
from muomni.run.peak_flops import peak_flops

PRECISIONS = ("bf16-mixed", "16-mixed")
#: Kernels of attention that hold no (T, T) scores in memory, by what is in their names.
FLASH = ("flash", "fmha", "efficient_attention")
MFU_AIM = 45.0  # percent
PACKED = 8  # documents of a row


class Clock(lightning.Callback):
    """Milliseconds of each step, the device's work included, and its loss."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.losses: list[float] = []
        self._last = 0.0

    def on_train_start(self, *_: Any) -> None:
        """The first step begins."""
        self._last = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Reading the loss waits for the step."""
        self.losses.append(float(pl_module.losses["loss"]))
        now = time.perf_counter()
        self.milliseconds.append(1000 * (now - self._last))
        self._last = now


def ten_steps(cfg: Any, stage: Any, datamodule: Any, output: Path) -> tuple[list[float], list[float]]:
    """Train by the configured trainer and callbacks -> milliseconds and loss of each step."""
    clock = Clock()
    trainer = train.build_trainer(cfg, output)
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.fit(stage, datamodule=datamodule)
    return clock.milliseconds, clock.losses


def stages(overrides: Sequence[str], folder: Path, *, shapes: Shapes, device: torch.device) -> list[Row]:
    """Every stage in both precisions. overrides: of `benchmarks.stages.prepared`."""
    rows = []
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    for name in STAGES:
        for precision in PRECISIONS:
            output = folder / f"{name}-{precision}"
            cfg = compose_config(
                f"stage={name}", *overrides, f"trainer.accelerator={accelerator}", f"trainer.precision={precision}",
                f"trainer.max_steps={shapes.steps}", f"trainer.val_check_interval={shapes.steps}",
                "trainer.limit_val_batches=1", f"paths.output={output}",
            )  # fmt: skip
            train.settle(cfg, list(overrides))
            stage, datamodule = build_stage(cfg)
            rows.append(stage_row(f"{name} {precision}", *ten_steps(cfg, stage, datamodule, output)))
    return rows


def stage_row(case: str, milliseconds: Sequence[float], losses: Sequence[float]) -> Row:
    """Of the later half of its steps; in order if all losses are finite."""
    settled = milliseconds[len(milliseconds) // 2 :]
    finite = bool(losses) and all(map(math.isfinite, losses))
    return row("training step", case, statistics.median(settled) if settled else None, "ms", ok=finite)


class ThinkerSteps:
    """A Thinker's training as the stage does it, on random ids (B, T), packed or one document a row."""

    def __init__(self, shapes: Shapes, device: torch.device, *, packed: bool, compiled: bool) -> None:
        torch.manual_seed(0)
        cfg = compose_config(
            "stage=thinker",
            f"size={shapes.thinker}",
            "optim=adamw",
            "optim.lr=1e-4",
            f"compile={str(compiled).lower()}",
        )
        make = instantiate(cfg.module, _convert_="all")
        self.stage = make(tokenizer=Path("none"), tokenizer_fingerprint="", decode=str).to(device)
        self.stage.train()
        self.stage.setup("fit")
        self.optimizer = self.stage.configure_optimizers()["optimizer"]
        self.device = device
        tokens = torch.randint(9, cfg.vocab_size, (shapes.rows, shapes.length + 1))
        mask = None
        if packed:
            documents = torch.arange(shapes.length) * min(PACKED, shapes.length) // shapes.length + 1
            mask = SegmentMask.with_runs(documents.expand(shapes.rows, -1).contiguous())
        self.batch = TextBatch(
            tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), torch.full((shapes.rows,), shapes.length), ["a"],
            torch.zeros(1), ["a"], mask=mask,
        ).to(device)  # fmt: skip

    def step(self) -> Tensor:
        """Forward, backward and optimizer, in bfloat16; on a CPU, which may have none, in float32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            loss: Tensor = self.stage.total_loss(self.stage.step(self.batch))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def mfu(*, shapes: Shapes, device: torch.device, compiled: bool) -> list[Row]:
    """Share of the device's peak that a Thinker's training reaches, eagerly and compiled."""
    peak, _ = peak_flops(device, half=True)
    rows = []
    for compile_model in (False, True) if compiled else (False,):
        run = ThinkerSteps(shapes, device, packed=False, compiled=compile_model)
        for _ in range(3):
            run.step()
        seconds = statistics.median(seconds_of(run.step, device) for _ in range(shapes.steps))
        case = f"Thinker {shapes.thinker}, {shapes.rows} x {shapes.length}{', compiled' if compile_model else ''}"
        share = 100 * run.stage.step_cost(run.batch).flops / seconds / peak
        rows += [
            row("training", case, shapes.rows * shapes.length / seconds, "tokens/s"),
            row("MFU", case, share, "%", aim=MFU_AIM if compile_model else None),
        ]
    return rows


def attention_kernels(*, shapes: Shapes, device: torch.device) -> list[Row]:
    """Which kernels the attention of a step runs, of plain and of packed rows: by the profiler's names."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    rows = []
    for packed in (False, True):
        run = ThinkerSteps(shapes, device, packed=packed, compiled=False)
        run.step()
        with torch.profiler.profile(activities=activities) as profile:
            run.step()
        found = flash_names([event.key for event in profile.key_averages()])
        case = f"{'packed' if packed else 'plain'} rows: {', '.join(found) or 'none'}"
        rows.append(row("flash kernels", case, len(found), "kernels", ok=bool(found)))
    return rows


def flash_names(names: Sequence[str]) -> list[str]:
    """Those of kernels of attention, shortened, without the operations that start them."""
    kernels = [name for name in names if not name.startswith("aten::") and any(word in name.lower() for word in FLASH)]
    return sorted({name.partition("(")[0].partition("<")[0].split("::")[-1][:40] for name in kernels})
