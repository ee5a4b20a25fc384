"""Image and audio encoders from Hugging Face folders: CLIP, SigLIP (also SigLIP 2 at a fixed resolution), DINOv2, ViT; Whisper,
wav2vec 2.0, HuBERT.

The folder is read by folder.py: its tensors, no code. Which of them are the encoder's is said here; names of earlier versions
of transformers are brought to today's by transformers' own table, and everything is compared with the encoder's shapes before
it is used. Images and recordings are prepared as preprocessor_config.json says (frontends.py).
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from muomni.checkpoints.assembly import assemble, outline
from muomni.checkpoints.export import Export, is_export, load_export, read_description, save_export
from muomni.interop.hf.ctc_head import CtcHead, read_ctc_head
from muomni.interop.hf.folder import CONFIG, HFFolder, find_folder, read_config, read_folder
from muomni.interop.hf.preprocessing import audio_spec, image_spec
from muomni.models.hf_audio import HfAudio, sizes_of
from muomni.models.hf_config import FAMILIES, IMAGE_FAMILIES, config_of
from muomni.models.registry import MissingPackage
from muomni.user_path import user_path

log = logging.getLogger(__name__)

NAFLEX = (
    "{path}: model_type={model_type} is SigLIP 2 with images of any shape (NaFlex), which no projector here reads: name the "
    "folder of its fixed form, whose model_type is siglip (google/siglip2-base-patch16-224, for one)"
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a folder has the encoder. family: in `FAMILIES`. within: the part of config.json. prefixes: what its tensors' names
    may begin with. marker: a tensor that each of them has."""

    family: str
    within: str
    prefixes: tuple[str, ...]
    marker: str


_CLIP, _SIGLIP = "embeddings.class_embedding", "embeddings.patch_embedding.weight"
_CLS, _CONV = "embeddings.cls_token", "feature_extractor.conv_layers.0.conv.weight"
_TOWER = ("vision_model.", "")
SOURCES = {
    "clip": Source("clip_vision_model", "vision_config", _TOWER, _CLIP),
    "clip_vision_model": Source("clip_vision_model", "", _TOWER, _CLIP),
    "siglip": Source("siglip_vision_model", "vision_config", _TOWER, _SIGLIP),
    "siglip_vision_model": Source("siglip_vision_model", "", _TOWER, _SIGLIP),
    "dinov2": Source("dinov2", "", ("", "dinov2."), _CLS),
    "vit": Source("vit", "", ("", "vit."), _CLS),
    "whisper": Source("whisper", "", ("model.encoder.", "encoder.", ""), "conv1.weight"),
    "wav2vec2": Source("wav2vec2", "", ("", "wav2vec2."), _CONV),
    "hubert": Source("hubert", "", ("", "hubert."), _CONV),
}
#: Tensors under an encoder's prefix that it does not read: of training, of other heads, and tables that are computed.
UNREAD = re.compile(
    r"(.*\.)?(position_ids|mask_token|masked_spec_embed)|(pooler|classifier|decoder|lm_head|projector|quantizer|project_q"
    r"|project_hid|proj_out|visual_projection|text_projection|text_model)\..*|logit_(scale|bias)|dropout_features.*"
)


@dataclass(frozen=True, slots=True)
class EncoderDescription:
    """What of a folder an export says: module ("vision" or "audio"), the description of it, and facts of the export."""

    module: str
    part: dict[str, Any]
    facts: dict[str, Any]


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether config.json is of an encoder, also of one that is refused by name."""
    return str(config.get("model_type")).startswith("siglip2") or config.get("model_type") in SOURCES


def describe(path: Path, config: Mapping[str, Any]) -> EncoderDescription:
    """The encoder that a folder's config.json and preprocessor_config.json describe, without its tensors."""
    where, model_type = path / CONFIG, str(config.get("model_type"))
    if model_type.startswith("siglip2"):
        raise ValueError(NAFLEX.format(path=where, model_type=model_type))
    if model_type not in SOURCES:
        raise ValueError(
            f"{where}: model_type={model_type!r} is no encoder that is read; they are {', '.join(SOURCES)}"
        )
    source = SOURCES[model_type]
    values = _values(source, config, where=str(where))
    facts: dict[str, Any] = {
        "imported": {"from": "hf", "model_type": model_type, "transformers": version("transformers")}
    }
    if source.family in IMAGE_FAMILIES:
        spec = image_spec(path, source.family)
        if spec.size % values["patch_size"]:
            raise ValueError(
                f"{path}: images of {spec.size} pixels are no multiple of patch_size={values['patch_size']}"
            )
        options = {"image_size": spec.size, "patch": values["patch_size"], "dim": values["hidden_size"]}
        part, module = "hf_vision", "vision"
        facts = {"stage": module, "image": spec.metadata(), **facts}
    else:
        n_mels, dim, downsample = sizes_of(source.family, values)
        options = {"n_mels": n_mels, "dim": dim, "downsample": downsample, "num_symbols": 0, "characters": None}
        head = read_ctc_head(path, config) if source.family != "whisper" else None
        if head is not None:
            options |= {"num_symbols": head.num_symbols, "characters": head.characters}
        part, module = "hf_audio", "audio"
        facts = {"stage": module, "mel": audio_spec(path, source.family, values).metadata(), "hearing": None, **facts}
    description = {"part": part, "options": {"model_type": source.family, "config": values, **options}}
    return EncoderDescription(module, description, facts)


def _values(source: Source, config: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """What of config.json decides the encoder, with transformers' defaults for what it leaves out."""
    inner = config.get(source.within, {}) if source.within else config
    if not isinstance(inner, Mapping):
        raise ValueError(f"{where}: {source.within} is no table: the folder is of another model")
    family = FAMILIES[source.family]
    for name in family.refused:
        if inner.get(name):
            raise ValueError(f"{where}: {name}={inner[name]!r}: an encoder with adapter layers is not read")
    given = {name: inner[name] for name in family.values if name in inner}
    try:
        built = config_of(source.family, given)
    except MissingPackage as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())[:300]}") from error
    plain = {name: getattr(built, name) for name in family.values}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def read_encoder(folder: HFFolder) -> tuple[EncoderDescription, nn.Module]:
    """The encoder of a folder, in eval mode, and its description. Raises ValueError naming what does not fit."""
    described = describe(folder.path, folder.config)
    source = SOURCES[folder.config["model_type"]]
    prefix = next((each for each in source.prefixes if each + source.marker in folder.tensors), None)
    if prefix is None:
        raise ValueError(
            f"{folder.path}: the tensor {source.prefixes[0]}{source.marker} is missing: no encoder of "
            f"model_type={folder.config['model_type']} is in it"
        )
    own = outline(described.part, tensors=None, where=str(folder.path))
    state = _todays_names(folder, own.encoder, source, prefix)
    if described.part["options"].get("num_symbols"):
        head = read_ctc_head(folder.path, folder.config)
        assert head is not None
        state |= _head(folder, head)
    where = str(folder.path)
    return described, assemble(described.part, state, where=where, weights=where)


def _todays_names(folder: HFFolder, encoder: Any, source: Source, prefix: str) -> dict[str, Tensor]:
    """The encoder's tensors by the names that this version of transformers has for them. encoder: its shape."""
    theirs = {}
    for key in folder.tensors:
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and not UNREAD.fullmatch(name):
            folder.tensors.dtype(key)
            theirs[name] = folder.tensors[key]
    import transformers as package

    verbosity = package.logging.get_verbosity()
    package.logging.set_verbosity_error()
    package.logging.disable_progress_bar()
    try:
        loaded, report = type(encoder).from_pretrained(
            None, config=encoder.config, state_dict=theirs, output_loading_info=True, ignore_mismatched_sizes=True,
            dtype="float32",
            **({"add_pooling_layer": False} if source.family == "vit" else {}),
        )  # fmt: skip
    except Exception as error:  # of transformers: of many classes
        raise ValueError(f"{folder.path}: {' '.join(str(error).split())[:300]}") from error
    finally:
        package.logging.set_verbosity(verbosity)
        package.logging.enable_progress_bar()
    _check_report(folder, report, prefix)
    return {f"encoder.{key}": value for key, value in loaded.state_dict().items()}


def _check_report(folder: HFFolder, report: Mapping[str, Any], prefix: str) -> None:
    """Raise ValueError for the first tensor that is missing, of another shape, or not expected."""
    missing, surplus = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if report["mismatched_keys"]:
        key, found, expected = sorted(report["mismatched_keys"])[0]
        file = folder.tensors.files.get(prefix + key, folder.path)
        raise ValueError(
            f"{file}: {prefix}{key} has shape {tuple(found)}, {CONFIG} asks for {tuple(expected)}: two models"
        )
    if missing:
        raise ValueError(
            f"{folder.path}: the tensor {prefix}{missing[0]} is missing, which {CONFIG} asks for: the folder is incomplete, "
            "or of another model"
        )
    if surplus:
        file = folder.tensors.files.get(prefix + surplus[0], folder.path)
        raise ValueError(f"{file}: unexpected tensor {prefix}{surplus[0]}: {CONFIG} describes a model without it")


def _head(folder: HFFolder, head: CtcHead) -> dict[str, Tensor]:
    for key, shape in head.shapes(folder.config).items():
        if key not in folder.tensors:
            raise ValueError(f"{folder.path}: the tensor {key} is missing: the folder is incomplete")
        if folder.tensors.shape(key) != shape:
            raise ValueError(
                f"{folder.tensors.files[key]}: {key} has shape {folder.tensors.shape(key)}, expected {shape}: vocab.json and "
                "the weights are of two models"
            )
    return head.ours(folder.tensors["lm_head.weight"].float(), folder.tensors["lm_head.bias"].float())


def import_encoder(folder: HFFolder, out: Path) -> list[str]:
    """Write the export of an encoder. Returns what to tell the user."""
    described, module = read_encoder(folder)
    save_export(out, {described.module: module}, files={}, metadata=described.facts)
    head = getattr(module, "num_symbols", None)
    letters = " without a CTC head" if head == 0 else f" with a CTC head of {head} symbols" if head else ""
    return [f"{folder.config['model_type']}: the {described.module} encoder{letters}, {_size(module)}"]


def _size(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M parameters"


def describe_path(path: str | Path) -> EncoderDescription:
    """Of a Hugging Face folder, or of an export that holds an encoder, what both say without their tensors."""
    if is_export(user_path(path)):
        document = read_description(user_path(path))
        for module in ("vision", "audio"):
            if module in document["parts"]:
                return EncoderDescription(module, document["parts"][module], document["facts"])
        raise ValueError(f"{path}: this export has no encoder; it holds {', '.join(document['parts'])}")
    folder = find_folder(path)
    return describe(folder, read_config(folder))


def load_encoder(path: str | Path) -> Export:
    """The encoder of a Hugging Face folder, or of an export, as an export: its module and what it was trained with."""
    if is_export(user_path(path)):
        return load_export(user_path(path), [describe_path(path).module])
    folder = read_folder(path)
    described, module = read_encoder(folder)
    return Export({described.module: module}, described.facts, folder.path)


def recognizer_module(path: str | Path, *, num_symbols: int, characters: str | None) -> HfAudio:
    """An audio encoder with a CTC head of these symbols, for a stage that trains it: its own where the letters agree, else
    a new one."""
    export = load_encoder(path)
    module = export.modules.get("audio")
    if not isinstance(module, HfAudio):
        raise ValueError(f"audio_encoder.path={path}: no Whisper, wav2vec 2.0 or HuBERT encoder is in it")
    if (module.num_symbols, module.characters) == (num_symbols, characters):
        return module.train()
    options = vars(module)["options"] | {"num_symbols": num_symbols, "characters": characters}
    with_head = HfAudio(**options)
    with_head.encoder = module.encoder
    return with_head.train()


def encoder_module(path: str | Path) -> nn.Module:
    """The module alone, for a stage that trains it."""
    (module,) = load_encoder(path).modules.values()
    return module.train()
