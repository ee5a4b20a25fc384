"""Weights that a stage takes from an export: those that are measured, and those that a training starts from (`init_from`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from muomni.checkpoints import export as export_files
from muomni.checkpoints.export import (
    check_same,
    find_tokenizer,
    is_export,
    load_export,
    load_strictly,
    read_description,
)
from muomni.run.conditioning import settle_state_width

#: Options of a module that change no weight, by the group of the command line that decides them: an encoder that was trained
#: with all of a recording learns from there to read in chunks.
DECIDED = {"audio_encoder": tuple(f"backbone.audio.{name}" for name in ("chunk", "right_context", "left_context"))}


def follow_export(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """With init_from=EXPORT the modules have the export's options, and texts its tokenizer, form and characters; what the
    command line names stays. Raises FileNotFoundError where there is no export."""
    if cfg.init_from is None or cfg.task != "fit":
        return
    if cfg.thinker.path is not None:
        raise ValueError(
            f"init_from={cfg.init_from} thinker.path={cfg.thinker.path}: both name initial weights, give one"
        )
    folder = Path(cfg.init_from)
    if not is_export(folder):
        raise FileNotFoundError(f"init_from={folder}: no export folder (model.yaml + model.safetensors) there")
    given = {word.lstrip("+").split("=", 1)[0] for word in overrides}
    given |= {option for group in given for option in DECIDED.get(group, ())}
    for name, part in read_description(folder)["parts"].items():
        if name in cfg.backbone and part.get("part") == name:
            for key, value in part.get("options", {}).items():
                option = f"backbone.{name}.{key}"
                if option not in given:
                    OmegaConf.update(cfg, option, value, force_add=True)
    if "tokenizer" in cfg.datamodule and cfg.datamodule.tokenizer is None:
        found = find_tokenizer(folder)
        cfg.tokenizer = None if found is None else str(found)
    read_as_trained(cfg, folder, overrides, option="init_from")


def follow_trained(cfg: DictConfig, trained: Path, overrides: Sequence[str]) -> None:
    """A training follows its Thinker, measuring the export `trained`, which is measured; a Talker takes the states of its Thinker
    in both."""
    settle_state_width(cfg, overrides)
    if cfg.task == "fit":
        follow_thinker(cfg, overrides)
    else:
        read_as_trained(cfg, trained, overrides)


def follow_thinker(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """A stage that begins with a trained Thinker reads texts in the Thinker's form, unless the command line names one (another
    than the Thinker's is refused when the stage is built)."""
    if "thinker" in cfg.stage.needs and not _names_form(overrides):
        folder = (cfg.module.states if cfg.stage.name == "talker" else cfg.module.thinker).folder
        if is_export(folder):
            cfg.text = export_files.trained_form(Path(folder))


def _names_form(overrides: Sequence[str]) -> bool:
    return any(word.lstrip("+").startswith("text=") for word in overrides)


def read_as_trained(cfg: DictConfig, trained: Path, overrides: Sequence[str], *, option: str = "ckpt") -> None:
    """Read data with the tokenizer, the characters and in the form that the export was trained with, and measure with its own
    Talker. Raises ValueError where the command line names another form."""
    if "tokenizer" in cfg.datamodule and cfg.datamodule.tokenizer is None:
        cfg.datamodule.tokenizer = str(find_tokenizer(trained) or trained / "tokenizer.model")
    if option == "ckpt" or cfg.characters is None:
        cfg.characters = export_files.trained_characters(trained)
    written = export_files.trained_form(trained)
    if _names_form(overrides) and cfg.text not in (None, written):
        raise ValueError(f"text={cfg.text}: {trained} was trained with text={written or 'null'}; leave it out")
    cfg.text = written
    if option == "ckpt" and cfg.module.get("talker") and "talker" in read_description(trained)["parts"]:
        cfg.module.talker.folder = str(trained)


def begin(cfg: DictConfig, stage: Any) -> Any:
    """The stage, if it will be trained with the weights of `init_from` and with adapters."""
    if cfg.task != "fit":
        return stage
    if cfg.init_from is not None:
        load_into(stage, Path(cfg.init_from))
    if cfg.get("adapter"):
        instantiate(cfg.adapter).apply(stage)
    return stage


def load_into(stage: Any, folder: Path) -> None:
    """Put an export's weights into a stage's modules, strictly; its metadata (tokenizer, mel, ...) must be the stage's."""
    loaded = load_export(folder)
    check_same(loaded.metadata, stage.export_metadata(), where=str(folder))
    for name, module in stage.export_modules().items():
        if name not in loaded.modules:
            raise ValueError(f"{folder}: this export has no module {name!r}; it holds {', '.join(loaded.modules)}")
        load_strictly(module, loaded.modules[name].state_dict(), where=f"{folder}, module {name!r}")
