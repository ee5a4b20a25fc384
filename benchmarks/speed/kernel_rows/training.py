"""Training steps that are compared: a stage of ours as train.py builds it, and another library's network."""

import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from benchmarks.speed.kernel_rows.contest import Call, count_flops
from benchmarks.speed.steps import make_step
from benchmarks.stages import compose_config
from muomni.run.hardware import has_fast_bfloat16

#: What a datamodule would say of itself.
METADATA: dict[str, dict[str, Any]] = {
    "audio": {"mel": {}},
    "vision": {"image": {}, "tokenizer": Path("none"), "tokenizer_fingerprint": ""},
}


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The same optimizer for all."""
    return torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.98), fused=True)


def stage_step(
    name: str, size: str, batch: Any, *, compiled: bool, overrides: tuple[str, ...] = ()
) -> tuple[Call, int]:
    """A training step of a stage on one batch, and the operations of its matrix products."""
    choice = str(compiled).lower()
    cfg = compose_config(f"stage={name}", f"size={size}", f"compile={choice}", *overrides)
    torch.manual_seed(0)
    stage = instantiate(cfg.module, _convert_="all")(**METADATA[name])
    stage.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*self.trainer.*")  # the stage logs, and nobody listens
        flops = count_flops(lambda: stage.total_loss(stage.step(batch)).backward())
        stage.zero_grad(set_to_none=True)
        stage.setup("fit")
    step = make_step(
        lambda each: stage.total_loss(stage.step(each)), adamw(stage.parameters()), bf16=has_fast_bfloat16("cpu")
    )

    def quiet() -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*self.trainer.*")
            step(batch)

    return quiet, flops


def train_step(model: nn.Module, batch: tuple[Any, ...], *, compiled: bool) -> Call:
    """A training step of a network that returns its loss."""
    model.train()
    loss = torch.compile(model) if compiled else model
    step = make_step(loss, adamw(model.parameters()), bf16=has_fast_bfloat16("cpu"))
    return lambda: step(*batch)
