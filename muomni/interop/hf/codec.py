"""Codecs of waveforms from Hugging Face folders, in and out: Mimi, EnCodec at 24 kHz, DAC, SNAC at 24 kHz.

The folder is read by folder.py: its tensors, no code. Names of earlier versions of transformers (the halves of Mimi, weight
norms) are brought to today's by transformers' own table, and everything is compared with the codec's shapes before it is used.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from muomni.checkpoints.assembly import assemble, outline
from muomni.checkpoints.atomic_write import atomic_folder
from muomni.checkpoints.export import Export, check_place, is_export, load_export, read_description, save_export
from muomni.interop.hf.folder import CONFIG, WEIGHTS, HFFolder, find_folder, read_config, read_folder
from muomni.models.hf_build import own_fields, transformers_class
from muomni.models.hf_codec import FAMILIES, HfCodec
from muomni.models.registry import MissingPackage
from muomni.models.waveform_codec import WaveformCodec
from muomni.user_path import user_path


def is_codec(config: Mapping[str, Any]) -> bool:
    """Whether config.json is of a codec."""
    return config.get("model_type") in FAMILIES or "vq_strides" in config


def import_codec(folder: HFFolder, out: Path) -> list[str]:
    """Write a folder's codec as an export. Returns notes for the user. Raises ValueError before anything is written."""
    check_place(out)
    export = read_codec(folder)
    save_export(out, export.modules, metadata=export.metadata, files={})
    codec: Any = export.modules["codec"]
    return [
        f"codec: {codec.name}, {codec.sample_rate} Hz, {codec.frame_rate:g} frames a second of {codec.num_codebooks} "
        f"codebooks of {codec.codebook_size}",
        f"the Talker speaks through it by  stage=talker codec=hf codec.path={out}",
    ]


def load_codec(folder: str | Path) -> Export:
    """The codec of an export, or of a Hugging Face folder or repository. Raises FileNotFoundError or ValueError."""
    path = user_path(folder)
    return load_export(path, ["codec"]) if is_export(path) else read_codec(read_folder(folder))


def describe_codec(folder: str | Path) -> WaveformCodec:
    """The codec that `load_codec` finds, without its weights: on the meta device."""
    path = user_path(folder)
    if is_export(path):
        parts = read_description(path)["parts"]
        if "codec" not in parts:
            raise ValueError(f"{path}: this export has no module 'codec'; it holds {', '.join(parts)}")
        description, where = parts["codec"], str(path)
    else:
        found = find_folder(folder)
        description, where = _description(read_config(found), found), str(found / CONFIG)
    codec = outline(description, tensors=None, where=where)
    if not isinstance(codec, WaveformCodec):
        raise ValueError(f"{where}: a codec of spectrograms: leave codec=hf out, paths.exports.codec={folder}")
    return codec


def read_codec(folder: HFFolder) -> Export:
    """The codec of a folder, in float32 and eval mode, as an export would hold it."""
    where, description = str(folder.path), _description(folder.config, folder.path)
    model_type = description["options"]["model_type"]
    codec: Any = assemble(description, _todays_names(folder, description["options"]), where=where, weights=where)
    metadata = {
        "stage": "codec",
        "codec_audio": {"sample_rate": codec.sample_rate, "hop": codec.hop},
        "imported": {"from": "hf", "model_type": model_type},
    }
    return Export({"codec": codec}, metadata, folder.path)


def _description(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The module of a folder as model.yaml would have it. Its configuration is what of config.json decides the codec: the fields
    that transformers' class declares, and the frame rate, however it is written."""
    where, model_type = path / CONFIG, config.get("model_type")
    if "vq_strides" in config:
        return {"part": "hf_codec", "options": {"model_type": "snac", "config": dict(config)}}
    if model_type not in FAMILIES:
        raise ValueError(f"{where}: model_type={model_type!r} is no codec that is read; they are {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    try:
        known = {*own_fields(transformers_class(family.config_class)), *family.also}
    except MissingPackage as error:
        raise ValueError(f"{path}: {error}") from error
    given = {name.removeprefix("_"): value for name, value in config.items() if value is not None}
    fields = {name: value for name, value in given.items() if name in known}
    return {"part": "hf_codec", "options": {"model_type": model_type, "config": fields}}


def _todays_names(folder: HFFolder, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The codec's tensors by the names that this version of transformers has for them."""
    theirs: dict[str, Tensor] = {}
    for key in folder.tensors:
        folder.tensors.dtype(key)
        theirs[key] = folder.tensors[key]
    if options["model_type"] == "snac":  # no class of transformers
        return {f"model.{key}": value for key, value in theirs.items()}
    try:
        config = FAMILIES[options["model_type"]](options["config"]).model.config
    except ValueError as error:
        raise ValueError(f"{folder.path / CONFIG}: {error}") from error
    logging = transformers_class("logging")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        loaded, report = transformers_class(FAMILIES[options["model_type"]].model_class).from_pretrained(
            None,
            config=config,
            state_dict=theirs,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype="float32",
        )
    except Exception as error:  # of transformers: of many classes
        raise ValueError(f"{folder.path}: {' '.join(str(error).split())[:300]}") from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
    _check_report(folder, report)
    return {f"model.{key}": value for key, value in loaded.state_dict().items()}


def _check_report(folder: HFFolder, report: Mapping[str, Any]) -> None:
    """Raise ValueError for the first tensor that is missing, of another shape, or not expected."""
    if report["mismatched_keys"]:
        key, found, expected = sorted(report["mismatched_keys"])[0]
        raise ValueError(
            f"{folder.path}: {key} has shape {tuple(found)}, {CONFIG} asks for {tuple(expected)}: two models"
        )
    if report["missing_keys"]:
        raise ValueError(
            f"{folder.path}: the tensor {min(report['missing_keys'])} is missing, which {CONFIG} asks for: the folder is "
            "incomplete, or of another model"
        )
    if report["unexpected_keys"]:
        key = min(report["unexpected_keys"])
        raise ValueError(
            f"{folder.tensors.files.get(key, folder.path)}: unexpected tensor {key}: {CONFIG} describes a model without it"
        )


def export_codec(codec: HfCodec, out: Path) -> None:
    """Write a codec as it came: config.json and model.safetensors."""
    with atomic_folder(out, own=(CONFIG, WEIGHTS)) as temporary:
        if codec.name == "snac":
            (temporary / CONFIG).write_text(json.dumps(vars(codec)["options"]["config"], indent=2))
            save_file({key: value.contiguous() for key, value in codec.model.state_dict().items()}, temporary / WEIGHTS)
        else:
            codec.model.save_pretrained(temporary)
