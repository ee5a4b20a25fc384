"""The configuration of a `train.py` command, composed by another program."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from muomni.cli.errors import check_overrides, read_words
from muomni.cli.help import CONF


def compose_words(words: Sequence[str]) -> DictConfig:
    """What `train.py` would compose of these words. Raises ValueError for a word that it would refuse. Values of a run, such as
    `paths.output`, cannot be resolved."""
    overrides = read_words(list(words), config="train", removable=("callbacks", "logger"))
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", overrides=overrides)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        GlobalHydra.instance().clear()
        raise ValueError(check_overrides(overrides, config="train") or str(error)) from error
    finally:
        GlobalHydra.instance().clear()
