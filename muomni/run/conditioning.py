"""`backbone.talker.conditioning=hidden | both`: a Talker that is told the states of a Thinker needs the Thinker's export first,
and takes states of its width."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, open_dict

from muomni.checkpoints.export import is_export, read_description

STATES = ("hidden", "both")


def tells_states(cfg: DictConfig) -> bool:
    """Whether the Talker of a configuration is told states."""
    return cfg.backbone.talker.conditioning in STATES


def settle_conditioning(cfg: DictConfig) -> None:
    """stage=talker needs the Thinker then, too."""
    if cfg.stage.name == "talker" and tells_states(cfg) and "thinker" not in cfg.stage.needs:
        with open_dict(cfg):
            cfg.stage.needs = ["thinker", *cfg.stage.needs]


def settle_state_width(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """The Talker takes states of the width of the Thinker that is there now, unless the command line names one. Raises ValueError
    for an export without a Thinker."""
    given = any(word.lstrip("+").startswith("backbone.talker.state_width=") for word in overrides)
    if given or cfg.stage.name != "talker" or not tells_states(cfg):
        return
    folder = Path(cfg.module.states.folder)
    if is_export(folder):  # else the stage refuses it
        part = read_description(folder)["parts"].get("thinker", {})
        if "dim" not in part.get("options", {}):
            raise ValueError(f"{folder}: this export has no module 'thinker'")
        cfg.backbone.talker.state_width = part["options"]["dim"]
