"""A run is taken up at every step that could have been its last: weights, rows, best checkpoint and samples are those of a run
that was never killed."""

import csv
import shutil

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint

from callbacks.atomic_checkpoints import AtomicCheckpointIO
from callbacks.data_position import DataPosition
from callbacks.metrics_file import MetricsFile
from callbacks.random_state import RandomState
from callbacks.resume_checkpoint import ResumeCheckpoint
from datamodules.base import DataModule
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions
from tests.unit.callbacks.conftest import ToyBatch

STEPS, VALIDATE, LOG = 11, 3, 2


class Noisy(Stage):
    """Training and validation both draw from the global generator."""

    name = "toy"

    def __init__(self):
        training = TrainingOptions(
            optimizer=lambda groups: torch.optim.Adam(groups, lr=0.1),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9),
            weight_decay=0.0, loss_weights={}, compile_model=False,
        )  # fmt: skip
        super().__init__(training, model=torch.nn.Linear(4, 1), evaluator=None)

    def step(self, batch):
        noise = torch.rand_like(batch.ids) if self.training else 0.1 * torch.randn_like(batch.ids)
        return {"square": self.model(batch.ids + noise).square().mean()}


class Numbers(DataModule):
    """14 samples in batches of 2: an epoch of 7 steps."""

    def __init__(self, workers=0):
        super().__init__(
            train="train", val="val", test={}, batch_size=2, eval_batch_size=2, num_workers=workers, seed=3
        )

    def load(self, path, split, *, phase):
        return self

    def __len__(self):
        return 14

    def item(self, index, epoch):
        return index, torch.rand(4, generator=torch.Generator().manual_seed(100 * epoch + index))

    def collate(self, samples):
        return ToyBatch(torch.stack([x for _, x in samples]), [str(index) for index, _ in samples])


class KeepAll(Callback):
    """Keeps a copy of each checkpoint as a kill right after it would find it, and what each batch held."""

    def __init__(self, folder):
        self.folder, self.seen = folder, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(batch.sample_ids)


def train(folder, *, checkpoint=None, workers=0, every=1, accumulate=1):
    torch.manual_seed(0)
    keep = KeepAll(folder)
    trainer = Trainer(
        max_steps=STEPS, max_epochs=-1, accelerator="cpu", val_check_interval=VALIDATE, check_val_every_n_epoch=None,
        log_every_n_steps=LOG, default_root_dir=folder, logger=MetricsFile(str(folder)), num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=accumulate,
        use_distributed_sampler=False, plugins=[AtomicCheckpointIO()],
        callbacks=[
            keep, DataPosition(), RandomState(), LearningRateMonitor("step"),
            ModelCheckpoint(folder / "checkpoints", "best", monitor="toy/val/loss", enable_version_counter=False),
            ResumeCheckpoint(str(folder / "checkpoints"), every),
        ],
    )  # fmt: skip
    stage = Noisy()
    trainer.fit(stage, datamodule=Numbers(workers), ckpt_path=checkpoint)
    return stage.model.state_dict(), keep.seen


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def best(folder):
    """What the best checkpoint says of itself, its folder left out."""
    loaded = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    (state,) = [state for key, state in loaded["callbacks"].items() if key.startswith("ModelCheckpoint")]
    return loaded["global_step"], state["best_model_score"].item()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return reference(tmp_path_factory.mktemp("whole"))


def reference(root, **how):
    """(folder, (weights, rows, best), samples of each batch, copies of the folder as a kill after each save leaves it)."""
    copies = []
    save = ResumeCheckpoint.save

    def save_and_copy(self, trainer):
        save(self, trainer)
        copies.append(root / f"copy-{len(copies)}")
        shutil.copytree(root / "run", copies[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumeCheckpoint, "save", save_and_copy)
        weights, seen = train(root / "run", **how)
    return root / "run", (weights, rows(root / "run"), best(root / "run")), seen, copies


def take_up(whole, copy, *, name="last", **how):
    """The folder of a killed run, with what it logged after its checkpoint, becomes that of the resumed one."""
    run, (weights, logged, kept), seen, _ = whole
    shutil.rmtree(run)
    shutil.copytree(copy, run)
    with (run / "metrics.csv").open("a") as file:
        file.write("9,9,9,9\n9,9")
    weights_again, seen_again = train(run, checkpoint=run / "checkpoints" / f"{name}.ckpt", **how)
    assert all(torch.equal(weights[key], weights_again[key]) for key in weights)
    assert rows(run) == logged
    assert best(run) == kept
    assert seen_again == seen[len(seen) - len(seen_again) :]
    return len(seen_again)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_taken_up_after_every_step(whole, step):
    assert take_up(whole, whole[3][step - 1]) == STEPS - step


def test_from_the_best_checkpoint_too(whole):
    assert take_up(whole, whole[3][-1], name="best") == STEPS - whole[1][2][0]


def test_workers_draw_the_same(whole):
    take_up(whole, whole[3][4], workers=2)


def test_accumulated_steps(tmp_path):
    whole = reference(tmp_path, accumulate=2)
    assert len(whole[3]) == STEPS
    for step in (2, 3, 7):  # in an epoch, at a validation, at an epoch's end
        assert take_up(whole, whole[3][step - 1], accumulate=2) > 0


def test_every_so_many_steps_and_the_last_two_stay(tmp_path):
    train(tmp_path, every=4)
    step = {
        name: torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("last", "previous")
    }
    assert step == {"last": STEPS, "previous": 8}
