"""Ablations: a stage trained with an option changed, next to the plain one.

`tag=NAME` on a command line makes an ablation of the overrides that come with it. The stages that they change write to
`checkpoints/STAGE-NAME`, as do stages that read the export of such a stage; all others use their usual
folders. `ablation=NAME` stands for a tag and overrides of conf/ablations.yaml; to Hydra it is a group.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from muomni import aliases
from muomni.checkpoints.export import is_export, read_description
from muomni.cli.help import CONF, choices
from muomni.experiment_data import data_options

#: Keys of a composed configuration that affect the weights, directly or by interpolation.
DECISIVE = ("module", "datamodule", "data", "trainer", "seed")
#: Overrides of scale and paths, which an ablation shares with the plain stages, as it does the experiment's data options.
SETTING = re.compile(
    r"(size|data|budget|experiment|debug|trainer|logger|task|ckpt|spike|prerequisites|resume|when_done"
    r"|(paths|logger)\..+|data\.(preset|root|train|val|test|replay|\w+_split)(\..+)?"
    r"|trainer\.(accelerator|devices|num_nodes|precision|strategy(\..+)?))$"
)


@functools.cache
def named() -> dict[str, dict[str, Any]]:
    """Name -> dotted option -> its value, or a value for each size that the ablation applies to."""
    table: Any = OmegaConf.to_container(OmegaConf.load(CONF / "ablations.yaml"))
    return table


def options(name: str, size: str) -> dict[str, Any] | None:
    """Dotted option -> value of a named ablation; None if it does not apply to this size."""
    found = named()[name]
    if any(isinstance(value, dict) and size not in value for value in found.values()):
        return None
    return {key: value[size] if isinstance(value, dict) else value for key, value in found.items()}


def register() -> None:
    """Register `ablation=NAME` with Hydra (conf/train.yaml names both groups); idempotent."""
    store = ConfigStore.instance()
    for name in named():
        store.store(group="ablation", name=name, node={"tag": name}, package="_global_")
        for size in choices("size"):
            changed = OmegaConf.create()
            for key, value in (options(name, size) or {}).items():
                OmegaConf.update(changed, key, value, force_add=True)
            store.store(group="ablation_options", name=f"{name}_{size}", node=changed, package="_global_")


def separate_exports(
    cfg: DictConfig, overrides: Sequence[str], *, handed_on: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Set separate `paths.exports` for the stages that a tagged command line changes. Returns these stages, and what it changes
    in the configuration of each: dotted key -> value.

    handed_on: the overrides that prerequisites inherit. A folder that the command line sets is kept.
    Raises ValueError if the command's own stage is not changed.
    """
    if not cfg.tag:
        return {}
    register()
    changed: dict[str, dict[str, Any] | None] = {}

    def visit(stage: str, words: Sequence[str]) -> bool:
        if stage not in changed:
            words = [word for word in words if _key(word) != "stage"]
            needs, reads, training = _what_it_trains(stage, *words)
            *_, plain = _what_it_trains(stage, *_setting(words))
            differing = {need for need in needs if visit(need, handed_on)}
            own = {key: training.get(key) for key in training | plain if training.get(key) != plain.get(key)}
            changed[stage] = own if own or differing & reads else None
        return changed[stage] is not None

    if not visit(cfg.stage.name, overrides):
        raise ValueError(_refusal(cfg, overrides))
    separate = {stage: own for stage, own in changed.items() if own is not None}
    for stage in separate.keys() - {_key(word).removeprefix("paths.exports.") for word in overrides}:
        cfg.paths.exports[stage] = f"{cfg.paths.exports[stage]}-{cfg.tag}"
    return separate


def check_tag(cfg: DictConfig, changes: Mapping[str, Mapping[str, Any]], *, own: bool) -> None:
    """Raise ValueError if the export of a stage that the tag changes was trained with other changes. own: also that of the
    command's own stage, which it trains."""
    for stage, wanted in changes.items():
        folder = Path(cfg.paths.exports[stage])
        if not is_export(folder) or (stage == cfg.stage.name and not own):
            continue
        made = read_description(folder)["facts"].get("run", {}).get("changes", wanted)  # none in exports of version 0.1
        for key in sorted(made.keys() | wanted.keys()):
            theirs, ours = (f"{key}={each[key]}" if key in each else f"{key} unchanged" for each in (made, wanted))
            if theirs != ours:
                raise ValueError(
                    f"tag={cfg.tag}: {folder} was trained with {theirs}, this run has {ours}: give another tag, or move the "
                    "folder away"
                )


def _setting(words: Sequence[str]) -> list[str]:
    """Those of the words that an ablation shares with the plain stages."""
    data = data_options(words)
    return [word for word in words if SETTING.match(_key(word)) or _key(word) in data]


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


@functools.cache
def _what_it_trains(stage: str, *words: str) -> tuple[list[str], set[str], dict[str, Any]]:
    """The prerequisites of a stage, the stages whose exports it reads other than as a judge, and its decisive configuration:
    dotted key -> value."""
    words = (f"stage={stage}", *words)
    if GlobalHydra.instance().is_initialized():
        cfg = compose("train", overrides=list(words))
    else:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides=list(words))
    nodes = {key: cfg.get(key) for key in DECISIVE} | {"ema": cfg.callbacks.get("ema")}
    training = {
        key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for key, node in nodes.items()
    }
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    text = json.dumps({key: value for key, value in tree.items() if key not in ("judge", "paths")}, default=str)
    needs = list(cfg.stage.needs)
    if stage == "talker" and cfg.backbone.talker.conditioning != "text":  # muomni/run/conditioning.py
        needs.append("thinker")
    return needs, set(re.findall(r"\$\{paths\.exports\.(\w+)\}", text)), aliases.flattened(training)


def _refusal(cfg: DictConfig, overrides: Sequence[str]) -> str:
    word = next((word for word in overrides if _key(word) == "ablation"), f"tag={cfg.tag}")
    sizes = [size for size in choices("size") if word != f"tag={cfg.tag}" and options(word.partition("=")[2], size)]
    if word == f"tag={cfg.tag}":
        hint = "give it with what it changes, as backbone.thinker.window=64; paths.root=DIR keeps sizes, data and budgets apart"
    elif cfg.size not in sizes:
        hint = f"it is for size={', '.join(sizes)}"
    else:
        hint = "leave it out"
    return f"{word}: changes nothing that stage={cfg.stage.name} trains at size={cfg.size}; {hint}"
