"""`image_encoder=hf` and `audio_encoder=hf`: the configuration of a run with a pretrained encoder, filled in from its folder,
or its export. Exports of such encoders under `paths.exports` are found by stage=omni_sft in the same way.

Sizes, and how images and recordings are prepared, are the encoder's; what of the rest follows from them (cells of an image's
tokens, frames of an audio token) is computed, unless the command line says it. The encoder is frozen, unless
`module.lr_multipliers` say otherwise.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from muomni.checkpoints.export import is_export, read_description
from muomni.interop.hf.encoders import EncoderDescription, describe_path

log = logging.getLogger(__name__)

STAGES = {"image_encoder": ("vision", "omni_sft"), "audio_encoder": ("audio", "omni_sft")}
MODULES = {"image_encoder": "vision", "audio_encoder": "audio"}
PARTS = ("hf_vision", "hf_audio")
LOAD = "muomni.interop.hf.encoders.load_encoder"
RECOGNIZER = "muomni.interop.hf.encoders.recognizer_module"
MOST_TOKENS_A_SIDE = 7
FRAMES_A_SECOND = 25  # of an encoder, that `backbone.projector.audio.stack` counts


def settle(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Fill in what follows from the encoders of a run. Raises ValueError for a stage that has none of that name, and for a path
    that is something else."""
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    for choice, fill in (("image_encoder", _image), ("audio_encoder", _audio)):
        if OmegaConf.is_missing(cfg[choice], "path"):
            raise ValueError(f"{choice}=hf: which one? give {choice}.path=FOLDER")
        path, module = cfg[choice].get("path"), MODULES[choice]
        if path is not None and cfg.stage.name not in STAGES[choice]:
            raise ValueError(
                f"{choice}=hf: stage={cfg.stage.name} does not train with it; leave it out, stages that do: "
                f"{', '.join(STAGES[choice])}"
            )
        found = None if path is None else describe_path(path)
        if found is not None and found.module != module:
            raise ValueError(f"{choice}.path={path}: that is an encoder of the other sort: give {_other(choice)}=hf")
        if found is None and cfg.stage.name == "omni_sft" and cfg.module.get(module) is not None:
            found = _exported(Path(cfg.paths.exports[module]), module)
        if found is None:
            continue
        with open_dict(cfg):
            if path is not None and cfg.stage.name == "omni_sft":
                cfg.module[module] = {"_target_": LOAD, "path": str(path)}
                if module == "vision" or cfg.module.talker is None:  # a recognizer of ours judges the Talker
                    cfg.stage.needs = [stage for stage in cfg.stage.needs if stage != module]
            fill(cfg, found.part["options"], found.facts, given)


def _other(choice: str) -> str:
    return next(name for name in STAGES if name != choice)


def _exported(folder: Path, module: str) -> EncoderDescription | None:
    """What an export of an earlier import says; None of one that a stage of ours trained natively."""
    if not is_export(folder):
        return None
    document = read_description(folder)
    part = document["parts"].get(module)
    if not isinstance(part, Mapping) or part.get("part") not in PARTS:
        return None
    return EncoderDescription(module, dict(part), document["facts"])


def _image(cfg: DictConfig, options: Mapping[str, Any], facts: Mapping[str, Any], given: set[str]) -> None:
    for key in ("image_size", "patch", "dim"):
        cfg.backbone.vision[key] = options[key]
    cfg.datamodule.image = {"_target_": "muomni.frontends.image.ImageSpec", **facts["image"]}
    side = options["image_size"] // options["patch"]
    for name in ("image", "image_head"):
        projector = cfg.backbone.projector[name]
        if f"backbone.projector.{name}.grid" not in given and side % projector.grid:
            projector.grid = max(n for n in range(1, MOST_TOKENS_A_SIDE + 1) if side % n == 0)
    grid = cfg.backbone.projector.image.grid
    if side % grid:
        raise ValueError(
            f"backbone.projector.image.grid={grid}: the encoder has {side} x {side} patches, no multiple of it"
        )
    cfg.backbone.projector.image.cell = (side // grid) ** 2
    if cfg.stage.name == "vision":
        _freeze(cfg, given)
    else:
        log.info(
            "images: %d x %d pixels, %d tokens of %d patches",
            *[options["image_size"]] * 2,
            grid**2,
            (side // grid) ** 2,
        )


def _audio(cfg: DictConfig, options: Mapping[str, Any], facts: Mapping[str, Any], given: set[str]) -> None:
    cfg.mel = {"_target_": "muomni.frontends.mel.MelSpec", **facts["mel"]}
    for key in ("dim", "downsample"):
        cfg.backbone.audio[key] = options[key]
    if facts["mel"].get("kind") is not None:  # what is not our log-mel is neither levelled nor augmented
        cfg.hearing = cfg.datamodule.conditions = None
        if "augment" in cfg.datamodule:
            cfg.datamodule.augment = None
    rate = facts["mel"]["sample_rate"] / facts["mel"]["hop"] / options["downsample"]
    if "backbone.projector.audio.stack" not in given:
        cfg.backbone.projector.audio.stack = max(1, round(cfg.backbone.projector.audio.stack * rate / FRAMES_A_SECOND))
    if cfg.stage.name == "audio":
        path = cfg.audio_encoder.path
        cfg.module.model = {
            "_target_": RECOGNIZER, "path": str(path), "num_symbols": cfg.backbone.audio.num_symbols,
            "characters": "${characters}",
        }  # fmt: skip
        _freeze(cfg, given)
    else:
        cfg.backbone.audio.num_symbols = options["num_symbols"]
        # Without a head it reads no words.
        if not options["num_symbols"] and "backbone.projector.audio.words" not in given:
            cfg.backbone.projector.audio.words = False
        if cfg.module.talker is None:
            cfg.module.evaluator.speech.judge = None
        log.info("recordings: %.3g frames a second, %d a token", rate, cfg.backbone.projector.audio.stack)


def _freeze(cfg: DictConfig, given: set[str]) -> None:
    if "module.lr_multipliers.encoder" not in given:
        cfg.module.lr_multipliers.encoder = 0.0
