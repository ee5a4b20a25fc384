"""What the published micro-omni is, composed as its user composes it: `size=tiny experiment=reference`."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from muomni.cli.ablations import register
from muomni.cli.errors import CONF
from muomni.frontends.tokenizer import Tokenizer

PARTS = {
    "thinker": "thinker",
    "vision": "vision",
    "image_projector": "projector.image",
    "audio": "audio",
    "audio_projector": "projector.audio",
    "codec": "codec",
    "talker": "talker",
}


@cache
def reference(*overrides: str) -> DictConfig:
    """The composed configuration of train.py."""
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=["size=tiny", "experiment=reference", *overrides])


@pytest.fixture(scope="session")
def config() -> Callable[..., DictConfig]:
    """Overrides -> the reference's configuration."""
    return reference


@pytest.fixture(scope="session")
def parts() -> dict[str, nn.Module]:
    """All parts with random weights, in eval mode."""
    backbone = reference().backbone
    torch.manual_seed(0)
    built = {}
    for name, path in PARTS.items():
        node = backbone
        for key in path.split("."):
            node = node[key]
        built[name] = instantiate(node, _convert_="all").eval()
    return built


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small vocabulary that knows the reference's greeting."""
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    return Tokenizer.train(["Hello, how are you?", "what is in the picture"] * 50, 400, path, exact=False)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
