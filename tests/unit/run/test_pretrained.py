"""thinker=hf: the configuration follows the pretrained model, and what the command line says itself stays."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from muomni.checkpoints.export import load_export
from muomni.cli.errors import CONF
from muomni.run.identity import identity
from muomni.run.pretrained import settle_thinker
from tests.unit.interop.hf.folders import SHAPE, write_llama


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("source"))


def settled(tmp_path, *overrides):
    overrides = [*overrides, f"paths.root={tmp_path}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    settle_thinker(cfg, overrides)
    return cfg


def test_pretraining_goes_on_from_its_weights(source, tmp_path):
    words = ["stage=thinker", "thinker=hf", f"thinker.path={source}", "backbone.thinker.dropout=0.1"]
    cfg = settled(tmp_path, *words)
    export = load_export(cfg.thinker.path)
    assert Path(cfg.thinker.path).parent == tmp_path / "data" / "pretrained"
    assert Path(cfg.datamodule.tokenizer) == export.tokenizer_path
    assert cfg.vocab_size == export.modules["thinker"].vocab_size
    model = instantiate(cfg.module, _convert_="all").keywords["model"]
    assert {key: model.options[key] for key in SHAPE} == SHAPE and model.options["dropout"] == 0.1
    for key, value in export.modules["thinker"].state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert identity(plain) != identity(plain | {"thinker": {"path": "another", "max_length": None}})


def test_an_omni_model_takes_it_in_place_of_a_stage(source, tmp_path):
    cfg = settled(
        tmp_path, "stage=omni_sft", "thinker=hf", f"thinker.path={source}", "thinker.max_length=24",
        "backbone.projector.audio.scale=7",
    )  # fmt: skip
    assert "thinker" not in cfg.stage.needs and "vision" in cfg.stage.needs
    assert cfg.module.thinker.folder == cfg.paths.exports.thinker == cfg.thinker.path
    assert cfg.module.image_projector.out_dim == SHAPE["dim"] and cfg.datamodule.max_length == 24
    thinker = load_export(cfg.thinker.path).modules["thinker"]
    norm = thinker.embedding.weight.detach().norm(dim=1).mean()
    assert cfg.module.image_projector.scale == pytest.approx(float(norm), rel=0.1)
    assert cfg.module.audio_projector.scale == 7


def test_a_stage_without_a_thinker_refuses_it(source, tmp_path):
    with pytest.raises(ValueError, match="stage=vision has no Thinker"):
        settled(tmp_path, "stage=vision", "thinker=hf", f"thinker.path={source}")


def test_without_it_nothing_changes(tmp_path):
    cfg = settled(tmp_path, "stage=thinker")
    assert cfg.backbone.thinker._target_ == "muomni.models.thinker.Thinker" and cfg.thinker.path is None
