"""Which way of a metric is better, and options that follow a monitor: contradictions are refused, what is off costs nothing."""

import re

import pytest
from omegaconf import OmegaConf

from muomni.run.identity import identity
from muomni.run.monitors import mode_of, settle


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("audio/val/wer", "min"),
        ("omni_sft/val/asr_cer", "min"),
        ("omni_sft/val/caption_f1", "max"),
        ("vision/val/probe_place", "max"),
        ("talker/val/place", "min"),
        ("talker/val/codebook_0", "min"),
        ("codec/val/codes_used", "max"),
        ("thinker/val/loss_minus_floor_story", "min"),
        ("thinker/val/loss", "min"),
        ("vocoder/val/griffin_lim_codec_log_mel_distance", "min"),
        ("thinker/val/riddle", None),
    ],
)
def test_the_better_way_is_in_the_name(name, mode):
    assert mode_of(name) == mode


def config(**options):
    return OmegaConf.create(
        {
            "stage": {"name": "audio"}, "monitor": "${stage.name}/val/loss", "monitor_mode": None, "export": "last",
            "average": 1, "val_samples": None, "early_stopping": {"patience": None, "min_delta": 0.0},
            "callbacks": {"early_stopping": {"a": 1}, "weight_average": {"a": 1}, "ema": None}, **options,
        }
    )  # fmt: skip


def test_what_is_off_is_no_callback():
    cfg = config()
    settle(cfg)
    assert (cfg.monitor_mode, cfg.callbacks.early_stopping, cfg.callbacks.weight_average) == ("min", None, None)
    cfg = config(average=3, early_stopping={"patience": 2, "min_delta": 0.0}, monitor="audio/val/wer")
    settle(cfg)
    assert cfg.callbacks.early_stopping == cfg.callbacks.weight_average == {"a": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"monitor": "audio/test/wer"}, "a metric of the validation split, audio/val/NAME"),
        ({"monitor": "wer"}, "a metric of the validation split"),
        ({"monitor": "audio/val/riddle"}, "give monitor_mode=min or max"),
        ({"monitor_mode": "up"}, "available are monitor_mode=min or max"),
        ({"export": "first"}, "export=first: available are last, best"),
        ({"average": 3, "callbacks": {"ema": {"a": 1}}}, "callbacks=ema exports an average of its own"),
    ],
)
def test_contradictions_are_refused(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        settle(config(**options))


def test_a_run_keeps_its_identity_where_all_of_it_is_off():
    former = {"stage": {"name": "audio"}, "seed": 0}
    now = OmegaConf.to_container(config(seed=0), resolve=False)
    assert identity(now) == identity(former) == identity({**now, "monitor": "audio/val/wer"})
    others = [
        {**now, **each} for each in ({"average": 2}, {"export": "best"}, {"average": 2, "monitor": "audio/val/wer"})
    ]
    assert len({identity(each) for each in (now, *others)}) == 4
