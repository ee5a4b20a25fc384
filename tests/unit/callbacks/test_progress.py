"""The progress bar of a resumed run."""

from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir

from callbacks.progress import Progress
from muomni.cli.help import CONF
from train import build_trainer, settle


def begun(*, at, step, max_steps=8, accumulate=1, whole=7, announced=True):
    """The bar after the first batch of a process, number `at` of its epoch of `whole`, with `step` steps done."""
    progress = Progress()
    progress._trainer = SimpleNamespace(
        max_steps=max_steps, global_step=step, accumulate_grad_batches=accumulate, num_training_batches=whole,
        current_epoch=3, progress_bar_metrics={}, is_global_zero=True, callback_metrics={},
    )  # fmt: skip
    progress.get_metrics = lambda *_: {}
    progress.on_train_start()
    if announced:
        progress.on_train_epoch_start(progress.trainer)
    progress.on_train_batch_start(progress.trainer, None, None, at)
    progress.on_train_batch_end(progress.trainer, None, None, None, at)
    return progress


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("how", "total"),
    [
        ({"at": 5, "step": 5}, 7),  # of the whole epoch, not of the three steps that are left
        ({"at": 2, "step": 4}, 6),
        ({"at": 2, "step": 4, "max_steps": -1}, 7),
        ({"at": 2, "step": 6, "accumulate": 2, "whole": 70}, 6),
    ],
)
def test_a_resumed_epoch_counts_what_was_done_before(how, total, announced):
    bar = begun(**how, announced=announced).train_progress_bar
    assert (bar.initial, bar.n, bar.total, bar.desc) == (how["at"], how["at"] + 1, total, "Epoch 3: ")


def test_an_epoch_from_its_start():
    progress = begun(at=0, step=0)
    bar = progress.train_progress_bar
    assert (bar.initial, bar.n, bar.total) == (0, 1, 7)
    progress.trainer.global_step = 7
    progress.on_train_epoch_start(progress.trainer)
    assert bar.total == 1, "of the second epoch one step is left"
    assert begun(at=0, step=6, accumulate=2).train_progress_bar.total == 4


def test_how_far_the_whole_training_is(monkeypatch):
    progress = begun(at=0, step=6, accumulate=2, max_steps=8000)
    del progress.get_metrics
    progress.trainer.training, progress.trainer.loggers = True, []
    monkeypatch.setattr(type(progress.train_progress_bar), "format_dict", {"n": 25, "initial": 5, "elapsed": 5.0})
    stage = SimpleNamespace(name="thinker")
    shown = progress.get_metrics(progress.trainer, stage)
    assert (shown["step"], shown["left"]) == ("6/8000", "1:06:37")  # 15,988 batches, four a second
    progress.trainer.training = False
    assert shown.keys() == {"step", "left"}
    progress.trainer.callback_metrics["thinker/train/loss"] = torch.tensor(2.5)
    assert progress.get_metrics(progress.trainer, stage) == {"loss": 2.5}


def test_no_bar_means_no_bar(tmp_path):
    """Lightning would put another in its place."""
    words = [
        "stage=thinker",
        "budget=ci",
        "trainer.accelerator=cpu",
        f"paths.root={tmp_path}",
        f"paths.output={tmp_path}",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        with_bar, without = (compose("train", overrides=words + more) for more in ([], ["callbacks.progress=null"]))
    for cfg in (with_bar, without):
        settle(cfg, words)
    assert isinstance(build_trainer(with_bar, tmp_path).progress_bar_callback, Progress)
    assert build_trainer(without, tmp_path).progress_bar_callback is None
