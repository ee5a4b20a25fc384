"""`thinker=hf`, `codec=hf`: the configuration of a run whose Thinker or codec is pretrained, filled in from its description.
Of `codec=waveform`, which is not, the Talker is filled in from the codec's options."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from muomni.checkpoints.export import find_tokenizer, read_description
from muomni.distributed import rendezvous
from muomni.interop.hf.codec import describe_codec
from muomni.interop.hf.importing import imported
from muomni.run.conditioning import tells_states

STAGES = ("thinker", "omni_sft")
CODEBOOKS = 8  # that a Talker speaks, of the 9 to 32 of a pretrained codec
FRAME_RATE = 12.5  # of our codec, for which `max_frames` of conf/backbone.yaml is
LOAD_CODEC = "muomni.interop.hf.codec.load_codec"
STARTED = "muomni.checkpoints.starting_weights.pretrained_thinker"


def settle_thinker(cfg: DictConfig, overrides: Collection[str]) -> None:
    """Import the model at `thinker.path`, unless it is null or was before. Shape and vocabulary of the Thinker are the export's.
    stage=thinker starts with its weights; stage=omni_sft joins it, and a Talker is told its states, in place of a stage=thinker
    of its own. What the command line says itself stays.

    Raises ValueError for another stage, and for an export without a Thinker.
    """
    if cfg.thinker.path is None:
        return
    if cfg.stage.name not in STAGES and not (cfg.stage.name == "talker" and tells_states(cfg)):
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


def settle_codec(cfg: DictConfig, overrides: Collection[str]) -> None:
    """The Talker speaks through the codec at `codec.path`, unless it is null, in place of a stage=codec of its own; or through a
    codec of waveforms that stage=codec trains.

    It has the codec's entries, and as many frames as last as long. What the command line says itself stays.
    Raises ValueError for another stage, and for changes of spectrograms, which a codec of waveforms does not read.
    """
    if "_target_" in cfg.codec:
        _settle_own_codec(cfg, overrides)
        return
    path = cfg.codec.path
    if path is None:
        return
    if cfg.stage.name != "talker":
        raise ValueError(f"codec=hf: stage={cfg.stage.name} chooses no codec, stage=talker does; leave it out")
    _check_recordings(cfg, "codec=hf")
    codec = describe_codec(path)
    _fill_talker(cfg, overrides, codebooks=codec.num_codebooks, entries=codec.codebook_size, rate=codec.frame_rate)
    with open_dict(cfg):
        cfg.module.codec = {"_target_": LOAD_CODEC, "folder": str(path)}
        cfg.stage.needs = [stage for stage in cfg.stage.needs if stage != "codec"]


def _settle_own_codec(cfg: DictConfig, overrides: Collection[str]) -> None:
    if cfg.stage.name == "vocoder":
        raise ValueError("codec=waveform: stage=vocoder is for a codec of mels; a codec of waveforms needs none")
    if cfg.stage.name == "talker":
        _check_recordings(cfg, "codec=waveform")
        codec = cfg.codec
        rate = codec.sample_rate / codec.hop
        _fill_talker(cfg, overrides, codebooks=codec.num_codebooks, entries=codec.codebook_size, rate=rate)


def _check_recordings(cfg: DictConfig, choice: str) -> None:
    if cfg.datamodule.augment is not None:
        raise ValueError(f"datamodule.augment changes spectrograms, {choice} reads recordings: datamodule.augment=null")


def _fill_talker(cfg: DictConfig, overrides: Collection[str], *, codebooks: int, entries: int, rate: float) -> None:
    """The Talker's numbers for a codec of so many codebooks and entries, and frames a second."""
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    filled = {
        "codebook_size": entries,
        "num_codebooks": min(CODEBOOKS, codebooks),
        "max_frames": round(cfg.backbone.talker.max_frames * rate / FRAME_RATE),
    }
    with open_dict(cfg):
        for key, value in filled.items():
            if f"backbone.talker.{key}" not in given:
                cfg.backbone.talker[key] = value
