"""Two ranks that share a batch do what one rank does with it: the same samples, gradients, losses and metrics."""

import math
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback
from omegaconf import OmegaConf

from callbacks.data_position import DataPosition
from datamodules.sources import resolve_sources
from muomni.command_line import CONF
from muomni.stages.base import Stage
from tests.ranks import run_ranks

STEPS = 3
#: Noise is drawn by each rank for its own share: without it, all is alike. Codebooks start at random from the data.
QUIET = {
    "codec": ["backbone.codec.dropout=0"],
    "talker": ["module.disturbance=0", "module.jitter=0"],
}
WITHOUT_EXPORTS = ("thinker", "vision", "audio", "ocr")


class Seen(Callback):
    """Samples and loss of each step."""

    def __init__(self) -> None:
        self.ids: list[list[str]] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.ids.append(list(batch.sample_ids))
        self.losses.append(float(trainer.callback_metrics[f"{pl_module.name}/train/loss"]))


def build(stage: str, root: str, *overrides: str) -> tuple[Any, Any, Any]:
    """Configuration, datamodule and stage as train.py builds them; plain gradient descent, which hides nothing."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[
            f"stage={stage}", "budget=ci", "data.preset=ci", f"paths.root={root}", "datamodule.batch_size=4",
            "datamodule.eval_batch_size=4", f"budget.{stage}.max_steps={STEPS}", *QUIET.get(stage, []), *overrides,
        ])  # fmt: skip
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    sources = resolve_sources(
        data,
        stage=stage,
        shape=cfg.stage.shape,
        world=OmegaConf.to_container(cfg.stage.world),  # type: ignore[arg-type]
    )
    lightning.seed_everything(0, verbose=False)
    datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
    module: Stage = instantiate(cfg.module, _convert_="all")(**datamodule.facts())
    module.optimizer_factory = lambda groups: torch.optim.SGD([{**g, "lr": 0.01} for g in groups], lr=0.01)
    if stage == "codec":
        module.model.quantizer.started.fill_(True)
    return cfg, datamodule, module


def make_trainer(cfg: Any, *callbacks: Callback) -> Any:
    make: Any = instantiate(cfg.trainer, _convert_="all")
    return make(
        accelerator="cpu", precision="32-true", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        use_distributed_sampler=False, val_check_interval=STEPS, limit_val_batches=3, limit_test_batches=3,
        callbacks=list(callbacks),
    )  # fmt: skip


def learnt(stage: str, root: str, *overrides: str) -> dict[str, Any]:
    """What a few steps and a test come to."""
    cfg, datamodule, module = build(stage, root, *overrides)
    seen = Seen()
    trainer = make_trainer(cfg, DataPosition(), seen)
    trainer.fit(module, datamodule=datamodule)
    val = float(trainer.callback_metrics[f"{stage}/val/loss"])
    weights = {name: value.detach().clone().numpy() for name, value in module.state_dict().items()}
    trainer.test(module, datamodule=datamodule, verbose=False)
    return {
        "ids": seen.ids, "losses": seen.losses, "val": val, "weights": weights, "metrics": module.results,
        "order": datamodule.order.state_dict(), "shown": sorted({s["split"] for s in module.samples()}),
    }  # fmt: skip


def compare(alone: dict[str, Any], together: list[dict[str, Any]]) -> None:
    for step, ids in enumerate(alone["ids"]):
        assert sorted(ids) == sorted(name for each in together for name in each["ids"][step])
    for each in together:
        assert each["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert each["val"] == pytest.approx(alone["val"], rel=1e-4)
        assert each["order"] == alone["order"] and each["shown"] == alone["shown"]
        assert each["metrics"].keys() == alone["metrics"].keys()
        for name, value in alone["metrics"].items():
            assert each["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
        for name, value in alone["weights"].items():
            torch.testing.assert_close(
                torch.from_numpy(each["weights"][name]), torch.from_numpy(value), rtol=1e-4, atol=2e-6, msg=name
            )
    assert all(math.isfinite(loss) for loss in alone["losses"])


@pytest.mark.parametrize("stage", ["thinker", "vision", "audio"])
def test_two_ranks_do_what_one_does(stage: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = str(tmp_path_factory.getbasetemp() / "ranks")
    (alone,) = run_ranks(learnt, stage, root, ranks=1)
    compare(alone, run_ranks(learnt, stage, root, "trainer=ddp", ranks=2))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ocr", "codec", "talker", "omni_sft"])
def test_two_ranks_do_what_one_does_in_every_stage(stage: str, line: Path) -> None:
    (alone,) = run_ranks(learnt, stage, str(line), ranks=1)
    compare(alone, run_ranks(learnt, stage, str(line), "trainer=ddp", ranks=2))
