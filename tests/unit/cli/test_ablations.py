"""Which stages an ablation changes, and which ablations are refused. Nothing is trained."""

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from muomni.cli.ablations import check_tag, register, separate_exports
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
    assert found.keys() == stages
    if tag == "again":
        assert found == {"vision": {"seed": 1, "datamodule.seed": 1}}
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


def test_where_an_experiments_data_is_makes_no_ablation():
    """Each of its stages reads the folder, tagged or not: the tag changes the one stage that its overrides change."""
    found, exports = separated("experiment=coco_captions", "coco=DIR", "tag=slow", "optim.lr=1e-4")
    assert found.keys() == {"omni_sft"} and not any(key.startswith("data.") for key in found["omni_sft"])
    assert exports.thinker == "./checkpoints/coco_captions/thinker"
    with pytest.raises(ValueError, match="changes nothing"):
        separated("experiment=fsdd", "fsdd=DIR", "tag=slow")


def test_no_tag_no_ablation():
    found, exports = separated("stage=thinker", "backbone.thinker.num_kv_heads=2")
    assert (found, exports.thinker) == ({}, "./checkpoints/thinker")


def made(folder, run):
    """An export as far as this module reads it."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    (folder / "model.yaml").write_text(yaml.safe_dump({"format": 1, "facts": {"run": run}, "parts": {}}))


def test_a_tag_is_of_one_set_of_changes(tmp_path):
    exports = {stage: str(tmp_path / f"{stage}-mine") for stage in ("thinker", "omni_sft")}
    cfg = OmegaConf.create({"tag": "mine", "stage": {"name": "omni_sft"}, "paths": {"exports": exports}})
    heads = {"module.model.num_kv_heads": 2}
    check_tag(cfg, {"thinker": heads, "omni_sft": {}}, own=True)  # nothing is there yet
    made(tmp_path / "omni_sft-mine", {"changes": {"seed": 5}})
    check_tag(cfg, {"omni_sft": {}}, own=False)  # it is measured, or a job of a sweep
    with pytest.raises(ValueError, match="omni_sft-mine was trained with seed=5, this run has seed unchanged"):
        check_tag(cfg, {"omni_sft": {}}, own=True)
    made(tmp_path / "thinker-mine", {"changes": heads})
    check_tag(cfg, {"thinker": heads}, own=False)
    with pytest.raises(
        ValueError,
        match=f"^tag=mine: {tmp_path}/thinker-mine was trained with module.model.num_kv_heads=2, this run has "
        "module.model.num_kv_heads=1: give another tag, or move the folder away$",
    ):
        check_tag(cfg, {"thinker": {"module.model.num_kv_heads": 1}}, own=False)
    with pytest.raises(ValueError, match="this run has module.model.num_kv_heads unchanged"):
        check_tag(cfg, {"thinker": {"module.model.window": 64}}, own=False)


def test_an_export_that_records_no_changes_is_used(tmp_path):
    cfg = OmegaConf.create(
        {"tag": "mine", "stage": {"name": "thinker"}, "paths": {"exports": {"thinker": str(tmp_path / "old")}}}
    )
    made(tmp_path / "old", {"size": "nano"})
    check_tag(cfg, {"thinker": {"seed": 3}}, own=True)
