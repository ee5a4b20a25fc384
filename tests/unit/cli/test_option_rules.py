"""Options that contradict each other, do nothing or never end are refused by name; steps are counted before training."""

import copy
import functools

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from muomni.cli.errors import CONF
from muomni.cli.option_rules import count_steps, validate


@functools.cache
def groups(*chosen):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(chosen))


def composed(*overrides):
    """Composed once for each choice of groups; single values are put in."""
    chosen = tuple(word for word in overrides if (CONF / word.partition("=")[0]).is_dir())
    cfg = copy.deepcopy(groups(*chosen))
    for word in set(overrides) - set(chosen):
        key, _, value = word.partition("=")
        OmegaConf.update(cfg, key, float("nan") if value == "nan" else yaml.safe_load(value))
    return cfg


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["tag=a/b"], "tag=a/b: it becomes part of names of folders"),
        (["trainer.max_steps=-1"], "training would never end"),
        (["trainer.max_steps=0"], "trainer.max_steps=0: a whole number, at least 1"),
        (["trainer.max_steps=1.5"], "trainer.max_steps=1.5: a whole number"),
        (["trainer.max_epochs=0", "trainer.max_steps=-1"], "trainer.max_epochs=0: a whole number"),
        (["trainer.accumulate_grad_batches=1.5"], "accumulate_grad_batches=1.5: a whole number"),
        (["trainer.val_check_interval=0.5"], "val_check_interval=0.5: a whole number, it counts optimizer steps"),
        (["ckpt=checkpoints/thinker"], "give task=test, validate or replay; .* resume=FILE.ckpt"),
        (["task=test", "resume=x.ckpt"], "resume=x.ckpt resumes a training: with task=test give ckpt=EXPORT"),
        (["stage=vocoder", "compile=true"], "stage=vocoder is not compiled"),
        (["stage=vocoder", "activation_checkpointing=true"], "stage=vocoder has nothing to checkpoint"),
        (["schedule.decay_fraction=1.5"], "schedule.decay_fraction=1.5: a number, from 0 to 1, is needed"),
        (["schedule.final=-1"], "schedule.final=-1: a number"),
        (["schedule.warmup_steps=-1"], "schedule.warmup_steps=-1: a whole number, at least 0, is needed"),
        (["optim.lr=fast"], "optim.lr=fast: a number, at least 0, is needed"),
        (["optim.lr=nan"], "optim.lr=nan: a number"),
        (["optim.lr=true"], "optim.lr=True: a number"),
        (["optim=adamw", "optim.betas=0.9"], "optim.betas=0.9: two numbers"),
        (["optim=adamw", "optim.betas=[0.9]"], r"optim.betas=\[0.9\]: two numbers"),
        (["module.training.weight_decay=-1"], "module.training.weight_decay=-1: a number"),
        (["datamodule.batch_size=0"], "datamodule.batch_size=0: a whole number, at least 1"),
        (["datamodule.eval_batch_size=2.5"], "datamodule.eval_batch_size=2.5: a whole number"),
        (["datamodule.num_workers=-1"], "datamodule.num_workers=-1: a whole number, at least 0"),
        (["seed=-3"], "seed=-3: a whole number"),
        (["trainer.gradient_clip_val=x"], "gradient_clip_val=x: above 0"),
        (["callbacks.finite_guard.max_loss=0.0"], "callbacks.finite_guard.max_loss=0.0: above 0"),
        (["callbacks.gradient_guard.max_norm=-1.0"], "callbacks.gradient_guard.max_norm=-1.0: above 0"),
        (["callbacks.finite_guard.patience=-1"], "callbacks.finite_guard.patience=-1: a whole number, at least 1"),
        (["callbacks.doctor.every_n_steps=0"], "callbacks.doctor.every_n_steps=0: a whole number, at least 1"),
        (["callbacks.resume_checkpoint.every_n_train_steps=0"], "every_n_train_steps=0: a whole number, at least 1"),
    ],
)
def test_what_would_do_nothing_or_never_end_is_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        validate(composed(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.max_steps=-1", "trainer.max_epochs=2"],
        ["compile=true"],
        ["debug=overfit"],
        ["trainer.check_val_every_n_epoch=1", "trainer.val_check_interval=0.5"],
    ],
)
def test_what_has_a_meaning_is_not(overrides):
    validate(composed(*overrides))


def test_a_stage_says_where_its_export_is():
    cfg = composed()
    del cfg.paths.exports.thinker
    with pytest.raises(
        ValueError, match=r"^stage=thinker: .* paths: {exports: {thinker: \${paths.checkpoints}/thinker}}$"
    ):
        validate(cfg)


class Data:
    """Eight steps an epoch."""

    def steps_in(self, epochs, **how):
        self.how = how
        return 8 * epochs


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.max_steps=-1", "trainer.max_epochs=2"], 16),
        (["trainer.max_steps=10", "trainer.max_epochs=2"], 10),
        (["trainer.max_steps=99", "trainer.max_epochs=2"], 16),
        (["trainer.max_steps=99"], 99),
    ],
)
def test_a_training_by_epochs_has_a_number_of_steps(overrides, steps, caplog):
    data = Data()
    assert count_steps(composed(*overrides).trainer, data, warmup=17, processes=2) == steps
    assert ("never reaches optim.lr" in caplog.text) == (steps < 17)
    if "trainer.max_epochs=2" in overrides:
        assert data.how == {"accumulate": 1, "ranks": 2, "limit": None, "only": 0}
