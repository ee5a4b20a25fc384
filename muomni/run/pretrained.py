"""`thinker=hf`: the configuration of a run whose Thinker is pretrained, filled in from the export that it is imported to."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from muomni.checkpoints.export import find_tokenizer, read_description
from muomni.distributed import rendezvous
from muomni.interop.hf.importing import imported

STAGES = ("thinker", "omni_sft")
STARTED = "muomni.checkpoints.starting_weights.pretrained_thinker"


def settle_thinker(cfg: DictConfig, overrides: Collection[str]) -> None:
    """Import the model at `thinker.path`, unless it is null or was before. Shape and vocabulary of the Thinker are the export's.
    stage=thinker starts with its weights, stage=omni_sft joins it, in place of a stage=thinker of its own. What the command line
    says itself stays.

    Raises ValueError for another stage, and for an export without a Thinker.
    """
    if cfg.thinker.path is None:
        return
    if cfg.stage.name not in STAGES:
        raise ValueError(
            f"thinker=hf: stage={cfg.stage.name} has no Thinker; leave it out, stages that have one: {', '.join(STAGES)}"
        )
    with rendezvous.rank_zero_first():
        export = imported(cfg.thinker.path, Path(cfg.paths.data) / "pretrained", max_length=cfg.thinker.max_length)
    document = read_description(export)
    if "thinker" not in document["parts"]:
        raise ValueError(f"thinker.path={export}: this export has no module 'thinker'")
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    options: dict[str, Any] = document["parts"]["thinker"]["options"]
    cfg.thinker.path = str(export)  # whose name holds what it was made of: it is part of the run's identity
    with open_dict(cfg):
        for key, value in options.items():
            if key not in ("vocab_size", "dropout") and f"backbone.thinker.{key}" not in given:
                cfg.backbone.thinker[key] = value
        cfg.vocab_size = options["vocab_size"]
        norm = document["facts"].get("hf", {}).get("embedding_norm")
        for media in ("image", "audio"):
            if norm is not None and f"backbone.projector.{media}.scale" not in given:
                cfg.backbone.projector[media].scale = norm
        if cfg.stage.name == "thinker":
            cfg.backbone.thinker.update({"_target_": STARTED, "folder": str(export)})
            if cfg.tokenizer is None:
                cfg.tokenizer = str(find_tokenizer(export))
        else:
            cfg.paths.exports.thinker = str(export)
            cfg.stage.needs = [stage for stage in cfg.stage.needs if stage != "thinker"]
