"""Which stages an ablation changes, and which ablations are refused. Nothing is trained."""

import pytest
from hydra import compose, initialize_config_dir

from muomni.cli.ablations import register, separate_exports
from muomni.cli.help import CONF
from muomni.run.stage_graph import shared_overrides


@pytest.fixture(autouse=True)
def _conf():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def separated(*words):
    cfg = compose("train", overrides=list(words))
    stages = separate_exports(cfg, words, handed_on=shared_overrides(words, ablated=True))
    return stages, cfg.paths.exports


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (["stage=thinker", "ablation=gqa", "budget=ci"], {"thinker"}),
        # codec and Talker train alike, whatever encoder judges their speech
        (["stage=omni_sft", "tag=slow", "backbone.audio.downsample=8"], {"audio", "omni_sft"}),
        (["stage=talker", "ablation=codebooks_4"], {"talker"}),  # the codec of size nano has four
        (["stage=vision", "tag=again", "seed=1", "paths.exports.vision=./mine"], {"vision"}),
        (["stage=talker", "tag=slow", "optim.lr=1e-4"], {"talker"}),  # what it needs has optimizers of its own
    ],
)
def test_the_stages_that_are_changed_have_exports_of_their_own(words, stages):
    found, exports = separated(*words)
    tag = words[1].partition("=")[2]
    assert found == stages
    own = {stage: f"./checkpoints/{stage}-{tag}" for stage in stages if f"paths.exports.{stage}=./mine" not in words}
    mine = {"vision": "./mine"} if "paths.exports.vision=./mine" in words else {}
    assert dict(exports) == {stage: f"./checkpoints/{stage}" for stage in exports} | own | mine


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stage=thinker", "ablation=gqa", "size=small"], "at size=small; it is for size=nano, tiny"),
        (
            ["stage=codec", "ablation=audio_downsample_8"],
            "^ablation=audio_downsample_8: changes nothing that stage=codec trains",
        ),
        (["stage=thinker", "ablation=qk_norm"], "at size=nano; leave it out"),
        (
            ["stage=thinker", "tag=tiny", "size=tiny", "budget=ci"],
            "^tag=tiny: changes nothing .*paths.root=DIR keeps sizes",
        ),
    ],
)
def test_an_ablation_that_changes_nothing_is_refused(words, said):
    with pytest.raises(ValueError, match=said):
        separated(*words)


def test_no_tag_no_ablation():
    found, exports = separated("stage=thinker", "backbone.thinker.num_kv_heads=2")
    assert (found, exports.thinker) == (set(), "./checkpoints/thinker")
