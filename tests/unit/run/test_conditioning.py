"""What a run of a Talker that is told states needs, and follows."""

import pytest
from hydra import compose, initialize_config_dir

from muomni.checkpoints.export import save_export
from muomni.cli.ablations import _what_it_trains
from muomni.cli.errors import CONF
from muomni.frontends.text_form import form_metadata
from muomni.models.thinker import Thinker
from muomni.run.conditioning import settle_conditioning, tells_states
from muomni.run.initial_weights import follow_trained


def settled(tmp_path, *words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[*words, f"paths.root={tmp_path}"])
    settle_conditioning(cfg)
    return cfg


@pytest.mark.parametrize("conditioning", ["hidden", "both"])
def test_it_needs_the_thinker_and_takes_its_width_and_form(tmp_path, conditioning):
    words = ["stage=talker", f"backbone.talker.conditioning={conditioning}"]
    cfg = settled(tmp_path, *words)
    assert cfg.stage.needs == ["thinker", "audio", "codec"] and tells_states(cfg)
    assert _what_it_trains("talker", words[1])[0] == ["audio", "codec", "thinker"]
    thinker = Thinker(vocab_size=40, dim=6, num_layers=1, num_heads=1, num_kv_heads=1, ff_dim=8, max_length=8)
    facts = {"stage": "thinker", "text": form_metadata("lower")}
    save_export(cfg.paths.exports.thinker, {"thinker": thinker}, metadata=facts, files={})
    follow_trained(cfg, tmp_path, words)
    assert cfg.module.model.state_width == 6 and cfg.text == "lower"


def test_an_export_without_a_thinker_is_refused(tmp_path):
    cfg = settled(tmp_path, "stage=talker", "backbone.talker.conditioning=hidden")
    save_export(cfg.paths.exports.thinker, {}, metadata={"stage": "thinker"}, files={})
    with pytest.raises(ValueError, match="thinker: this export has no module 'thinker'"):
        follow_trained(cfg, tmp_path, [])


def test_others_need_what_they_needed(tmp_path):
    assert settled(tmp_path, "stage=talker").stage.needs == ["audio", "codec"]
    cfg = settled(tmp_path, "stage=omni_sft", "backbone.talker.conditioning=hidden")
    assert cfg.stage.needs == ["thinker", "vision", "audio", "talker"]
