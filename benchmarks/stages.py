"""Stages as train.py builds them, and a folder with the data and exports that they need."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from datamodules.sources import resolve_sources
from muomni.cli.help import CONF
from muomni.program import ROOT
from muomni.report.collect import STAGES as REPORTED
from muomni.run.initial_weights import follow_thinker

STAGES = (*REPORTED, "ocr")
#: Stages whose optimizer the trainer steps; a vocoder takes turns with its discriminators.
ONE_OPTIMIZER = tuple(name for name in STAGES if name != "vocoder")
#: The ci world, with pictures and documents of the small one's size.
WORLD = ("data.preset=ci", "data.image_size=64")


def compose_config(*overrides: str) -> DictConfig:
    """The configuration of train.py."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides))
    follow_thinker(cfg, overrides)
    return cfg


def build_stage(cfg: DictConfig) -> tuple[Any, Any]:
    """Stage, its weights drawn with the seed, and datamodule."""
    torch.manual_seed(cfg.seed)
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    world: Any = OmegaConf.to_container(cfg.stage.world)
    sources = resolve_sources(data, stage=cfg.stage.name, shape=cfg.stage.shape, world=world)
    datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
    return instantiate(cfg.module, _convert_="all")(**datamodule.metadata()), datamodule


def build_trainer(cfg: DictConfig, callbacks: Sequence[Callback], **options: Any) -> Trainer:
    """A trainer on the CPU that trains and does nothing else."""
    return Trainer(
        accelerator="cpu", callbacks=list(callbacks), logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        gradient_clip_val=cfg.trainer.gradient_clip_val, default_root_dir=tempfile.gettempdir(), **options,
    )  # fmt: skip


def draw(datamodule: Any) -> Iterator[Any]:
    """Batches of the training loader, epoch after epoch."""
    while True:
        for batch in datamodule.train_dataloader():
            datamodule.count_batch()
            yield batch


@contextmanager
def prepared(root: str, overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides, with the root to measure in; without a root, a temporary one that two steps of every stage fill."""
    if root:
        yield [f"paths.root={root}", "budget=ci", *overrides]
        return
    with tempfile.TemporaryDirectory(prefix="muomni-bench-") as folder:
        there = [f"paths.root={folder}", "budget=ci", *WORLD]
        sizes = [word for word in overrides if word.startswith(("size=", "vocab_size="))] or ["size=nano"]
        for stage in ("talker", "omni_sft"):
            command = [sys.executable, str(ROOT / "train.py"), f"stage={stage}", "when_done=skip", *sizes, *there]
            done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
            if done.returncode:
                sys.exit(f"error: preparing stage={stage} failed:\n{done.stderr.decode()[-2000:]}")
        yield [*there, *overrides]
