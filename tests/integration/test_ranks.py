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
from torch.utils.data import DataLoader

from callbacks.data_position import DataPosition
from datamodules.sources import resolve_sources
from muomni.cli.errors import CONF
from muomni.distributed import rendezvous
from muomni.run.initial_weights import follow_thinker
from muomni.special_tokens import ASSISTANT, BOS, EOS, IGNORE, PAD, USER
from muomni.stages.base import Stage
from tests.ranks import run_ranks
from tests.unit.stages.test_omni_sft_stage import batch as omni_batch
from tests.unit.stages.test_omni_sft_stage import make as make_omni
from train import hand_over

STEPS = 3
#: Noise is drawn by each rank for its own share: without it, all is alike. Codebooks start at random from the data.
QUIET = {
    "audio": ["datamodule.conditions=null"],  # silence around a clip, as much as its share of a batch has room for
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
        follow_thinker(cfg, overrides)
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    sources = resolve_sources(
        data,
        stage=stage,
        shape=cfg.stage.shape,
        world=OmegaConf.to_container(cfg.stage.world),  # type: ignore[arg-type]
    )
    lightning.seed_everything(0, verbose=False)
    datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
    module: Stage = instantiate(cfg.module, _convert_="all")(**datamodule.metadata())
    module.optimizer_factory = lambda groups: torch.optim.SGD([{**g, "lr": 0.01} for g in groups], lr=0.01)
    if stage == "codec":
        module.model.quantizer.started.fill_(True)
    return cfg, datamodule, module


def make_trainer(cfg: Any, *callbacks: Callback, limit_val_batches: int = 3) -> Any:
    make: Any = instantiate(cfg.trainer, _convert_="all")
    return make(
        accelerator="cpu", precision="32-true", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        use_distributed_sampler=False, val_check_interval=STEPS, limit_val_batches=limit_val_batches,
        limit_test_batches=3, callbacks=list(callbacks),
    )  # fmt: skip


def learnt(stage: str, root: str, *overrides: str) -> dict[str, Any]:
    """What a few steps and a test come to."""
    cfg, datamodule, module = build(stage, root, *overrides)
    seen = Seen()
    trainer = make_trainer(cfg, DataPosition(), seen)
    trainer.fit(module, datamodule=datamodule)
    val = float(trainer.callback_metrics[f"{stage}/val/loss"])
    export = Path(root) / "exports" / f"{stage}-{rendezvous.world_size()}"
    module = hand_over(module, trainer, export, {}, fresh=lambda: build(stage, root, *overrides)[2])
    weights = {name: value.detach().clone().numpy() for name, value in module.state_dict().items()}
    trainer.test(module, datamodule=datamodule, verbose=False)
    return {
        "ids": seen.ids, "losses": seen.losses, "val": val, "weights": weights, "metrics": module.results,
        "order": datamodule.batch_sampler.state_dict(), "shown": sorted({s["split"] for s in module.examples}),
    }  # fmt: skip


def compare(alone: dict[str, Any], together: list[dict[str, Any]]) -> None:
    for step, ids in enumerate(alone["ids"]):
        assert sorted(ids) == sorted(name for each in together for name in each["ids"][step])
    for rank, each in enumerate(together):
        assert each["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert each["val"] == pytest.approx(alone["val"], rel=1e-4)
        assert each["order"] == alone["order"] and each["shown"] == alone["shown"]
        assert each["metrics"].keys() == alone["metrics"].keys()
        for name, value in alone["metrics"].items():
            if name.endswith("real_time_factor"):
                continue  # a clock's
            assert each["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
        for name, value in alone["weights"].items() if rank == 0 else ():
            torch.testing.assert_close(
                torch.from_numpy(each["weights"][name]), torch.from_numpy(value), rtol=1e-4, atol=2e-6, msg=name
            )
    assert all(math.isfinite(loss) for loss in alone["losses"])


class Shares(lightning.LightningDataModule):
    """Batches of given rows of the batch of three: pictures (0, 1), sound (2), and a row of text alone (3)."""

    def __init__(self, steps: list[list[int]]) -> None:
        super().__init__()
        self.steps = steps

    def train_dataloader(self) -> Any:
        return DataLoader([self.rows(rows) for rows in self.steps], batch_size=None)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch

    def rows(self, rows: list[int]) -> Any:
        whole = omni_batch()
        text = torch.tensor([[BOS, USER, 12, ASSISTANT, 22, EOS, PAD, PAD, PAD, PAD]])
        targets = torch.full_like(text, IGNORE)
        targets[0, 3:5] = text[0, 4:6]
        pictures, sound = [row for row in rows if row < 2], 2 in rows
        whole.ids, whole.targets = torch.cat([whole.ids, text])[rows], torch.cat([whole.targets, targets])[rows]
        whole.lengths = torch.tensor([10, 10, 9, 6])[rows]
        whole.images, whole.image_keys = (whole.images[pictures] if pictures else None), ["a", "b"][: len(pictures)]
        whole.mel, whole.mel_lengths = (whole.mel, whole.mel_lengths) if sound else (None, None)
        whole.sample_ids = [str(row) for row in rows]
        return whole


def learnt_from(shares: list[list[list[int]]], *overrides: str) -> dict[str, Any]:
    """The omni stage after one step a share of this rank: with momentum, and encoders that learn."""
    module = make_omni(
        lr_multipliers={"vision": 0.5, "audio": 0.5},
        optimizer=lambda groups: torch.optim.SGD([{**g, "lr": 0.1} for g in groups], lr=0.1, momentum=0.9),
    )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["stage=omni_sft", f"trainer.max_steps={len(shares[0])}", *overrides])
    trainer = make_trainer(cfg, limit_val_batches=0)
    trainer.fit(module, datamodule=Shares(shares[rendezvous.rank()]))
    return {name: value.detach().clone().numpy() for name, value in module.state_dict().items()}


def test_a_rank_of_text_and_a_rank_of_sound_learn_what_one_rank_learns() -> None:
    """Nothing hangs; what a share does not hold takes no gradient of it, and what no share holds does not move."""
    shares = [[[3], [3], [2]], [[2], [3], [0]]]
    (alone,) = run_ranks(learnt_from, [[[3, 2], [3, 3], [2, 0]]], ranks=1)
    for each in run_ranks(learnt_from, shares, "trainer=ddp", ranks=2):
        for name, value in alone.items():
            torch.testing.assert_close(
                torch.from_numpy(each[name]), torch.from_numpy(value), rtol=1e-4, atol=1e-6, msg=name
            )


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("ranks"))


def check(stage: str, root: str, *trainers: str) -> None:
    (alone,) = run_ranks(learnt, stage, root, ranks=1)
    for trainer in trainers:
        compare(alone, run_ranks(learnt, stage, root, f"trainer={trainer}", ranks=2))


@pytest.mark.parametrize(
    ("stage", "trainers"), [("thinker", ["ddp", "fsdp2"]), ("vision", ["ddp"]), ("audio", ["ddp"])]
)
def test_two_ranks_do_what_one_does(stage: str, trainers: list[str], root: str) -> None:
    check(stage, root, *trainers)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vision", "audio", "ocr", "codec", "talker", "omni_sft", "vocoder"])
def test_two_ranks_do_what_one_does_in_every_stage(stage: str, line: Path) -> None:
    """Weights shared among the ranks too."""
    check(stage, str(line), *(["fsdp2"] if stage in ("vision", "audio") else ["ddp", "fsdp2"]))
