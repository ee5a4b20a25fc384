"""Files -> an engine: an export folder, a single .safetensors or a training's .ckpt, optionally with another export's
Talker."""

from pathlib import Path

import torch

from muomni.checkpoints.compatibility import check_compatible
from muomni.checkpoints.export import Export, is_export, list_exports
from muomni.checkpoints.single_file import read_export
from muomni.frontends.text_form import form_of
from muomni.frontends.text_normalizer import LETTERS
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.compiled import make_runtime
from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.inference.engine import Engine
from muomni.inference.errors import MISSING_MODULE_HELP, InvalidOption, MissingModule, MuomniError, raised_as
from muomni.inference.tts.text_states import MODULE
from muomni.inference.validation import require_path
from muomni.program import TRAIN
from muomni.short_repr import shown
from muomni.user_path import user_path


@raised_as(MuomniError, param=None)
def load_model(
    path: str | Path,
    *,
    device: str = "auto",
    format: str = "auto",
    talker: str | Path | None = None,
    vocoder: str | Path = "auto",
    compile: str = "none",
    dtype: str = "float32",
    packages: str | Path | None = None,
) -> Engine:
    """An engine from an export folder (or the model.safetensors in it), a single .safetensors, or a training's .ckpt.

    device: auto uses a GPU if there is one. talker: another export whose Talker and codec speak the answers.
    vocoder: griffin_lim, an export of stage=vocoder, or auto: the export `vocoder` next to this one if it was trained on the
    same spectrogram, else Griffin-Lim. compile, dtype: how the Thinker decodes, and the dtype of its weights
    (docs/decoding.md). packages: the folder of compiled steps, which are executed; default: the user's cache, never an export,
    which may come from someone else. Raises FileNotFoundError or MuomniError naming what is wrong with the path, the export or
    the options.
    """
    for name, file in (("path", path), ("talker", talker), ("vocoder", vocoder), ("packages", packages)):
        if name in ("path", "vocoder") or file is not None:
            require_path(name, file)
    path, vocoder = user_path(path), vocoder if vocoder in ("auto", "griffin_lim") else user_path(vocoder)
    talker, packages = (None if other is None else user_path(other) for other in (talker, packages))
    export = read_modules(path, talker=talker)
    if "thinker" in export.modules:
        set_weight_dtype(export.modules["thinker"], dtype)
    elif compile != "none" or dtype != "float32":
        raise MissingModule(
            f"{path}: compile={compile} dtype={dtype}: {MISSING_MODULE_HELP['thinker']}", param="thinker"
        )
    check_compatible(export.modules, export.metadata, where=str(export.folder))
    engine = Engine(
        modules=export.modules,
        metadata=export.metadata,
        tokenizer=read_tokenizer(export),
        where=str(export.folder),
        format=format,
        device=find_device(device),
        vocoder=vocoder,
    )
    if "thinker" in export.modules:
        thinker = engine.require_prompter().thinker
        engine.runtime = make_runtime(thinker, mode=compile, packages=packages)
    return engine


def read_modules(path: str | Path, *, talker: str | Path | None) -> Export:
    """An export with all its modules; `talker`: with that export's Talker and codec."""
    export = read_export(path)
    return export if talker is None else with_talker(export, read_export(talker))


def find_export(ckpt: str | None, checkpoints: Path) -> Path:
    """The path of the export. Raises InvalidOption listing the available exports if it is missing or wrong."""
    if ckpt and (is_export(ckpt) or Path(ckpt).is_file()):
        return Path(ckpt)
    found = ", ".join(str(path) for path in list_exports(checkpoints)) or f"none; {TRAIN} stage=omni_sft makes one"
    problem = f"ckpt={ckpt} is not an export" if ckpt else "ckpt=EXPORT is missing"
    raise InvalidOption(f"{problem}; exports under {checkpoints}: {found}", param="ckpt")


def find_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N -> the device. Raises InvalidOption for another name, or a device that is not available."""
    name = str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device_type, _, number = name.partition(":")
    if device_type not in ("cpu", "cuda") or not (number or "0").isdecimal():
        raise InvalidOption(f"device={shown(name, str)}: available are auto, cpu, cuda, cuda:N", param="device")
    if device_type == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InvalidOption(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA GPUs; device=cpu works", param="device"
        )
    return torch.device(name)


def read_tokenizer(export: Export) -> Tokenizer | None:
    """The export's tokenizer, if it has one. Raises MuomniError if the modules were trained with another one."""
    if export.tokenizer is None:
        return None
    try:
        tokenizer = Tokenizer(export.tokenizer)
    except ValueError as error:
        raise MuomniError(f"{export.folder}, {export.tokenizer_name}: {error}") from error
    try:
        tokenizer = tokenizer.with_form(form_of(export.metadata, where=str(export.folder)))
    except ValueError as error:
        raise MuomniError(str(error)) from error
    trained_with = export.metadata.get("tokenizer")
    if trained_with is not None and trained_with != tokenizer.fingerprint():
        raise MuomniError(
            f"{export.folder}, {export.tokenizer_name}: fingerprint {tokenizer.fingerprint()[:12]}, but the model was trained "
            f"with {str(trained_with)[:12]}: put the right tokenizer back, or train again"
        )
    return tokenizer


def with_talker(export: Export, speech: Export) -> Export:
    """A copy of the export with the Talker and codec of another one."""
    for name in ("talker", "codec"):
        if name not in speech.modules:
            raise MissingModule(f"{speech.folder}: {MISSING_MODULE_HELP[name]}", param=name)
    spoken = {name: speech.modules[name] for name in ("talker", "codec", MODULE) if name in speech.modules}
    theirs = (
        "codec",
        "codec_mel",
        "codec_audio",
        MODULE,
    )  # what describes a codec, and the fingerprint of the Talker's Thinker
    tokenizer = export.tokenizer
    if MODULE in spoken:
        ours, its = export.metadata.get("tokenizer"), speech.metadata.get("tokenizer")
        if tokenizer is not None and ours != its:
            raise InvalidOption(
                f"talker={speech.folder}: its Talker is told the states of a Thinker with another tokenizer "
                f"({str(its)[:12]}) than {export.folder} has ({str(ours)[:12]}): train stage=talker with this Thinker",
                param="talker",
            )
        tokenizer = speech.tokenizer
    metadata = {key: value for key, value in export.metadata.items() if key not in theirs}
    metadata |= {key: speech.metadata[key] for key in theirs if key in speech.metadata}
    if "codec_audio" not in metadata:
        metadata.setdefault("codec_mel", speech.metadata.get("mel"))
    metadata["spoken_text"] = speech.metadata.get("text")
    metadata["alphabet"] = speech.metadata.get("alphabet", LETTERS)
    if MODULE in spoken:
        metadata["tokenizer"] = speech.metadata.get("tokenizer")
    modules = {name: module for name, module in export.modules.items() if name != MODULE} | spoken
    return Export(modules, metadata, export.folder, tokenizer)
