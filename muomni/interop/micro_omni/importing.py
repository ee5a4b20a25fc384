"""Checkpoints of micro-omni -> an ordinary export folder; nothing is written before everything is checked.

An export needs more than weights. The vocabulary is extended by our special tokens (`vocabulary.py`); the metadata name frontends
of the published sizes, which are similar to those of the weights' training but not the same (docs/coming-from-micro-omni.md);
the fact `micro_omni` records the origin.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from torch import nn

from muomni.checkpoints.compatibility import check_compatible
from muomni.checkpoints.export import is_export, save_export, weights_fingerprint
from muomni.checkpoints.schema import check_metadata, read_yaml
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.micro_omni import files
from muomni.interop.micro_omni.building import Built, build
from muomni.interop.micro_omni.files import Checkpoint
from muomni.interop.micro_omni.module_options import check_options, options_built
from muomni.interop.micro_omni.rules import TABLES, State
from muomni.interop.micro_omni.vocabulary import ADDED, has_special_pieces, widened, widened_tokenizer
from muomni.models.thinker import Thinker

FACT = "micro_omni"
DIFFERENCES = "docs/coming-from-micro-omni.md"
KEPT_FILE = "micro_omni.safetensors"

_SOUND: dict[str, Any] = {"sample_rate": 16000, "bins": 128, "f_min": 0.0, "f_max": 8000.0, "log": True, "floor": 1e-5}
MEL = MelSpec(hop=160, n_fft=1024, win=400, **_SOUND)
CODEC_MEL = MelSpec(hop=1280, n_fft=4096, win=4096, **_SOUND)
NO_MEAN, NO_SCALE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # their pixels are in [0, 1], not normalised


@dataclass(slots=True)
class Import:
    """Content of the files in our terms. notes: messages for the user."""

    modules: dict[str, nn.Module] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    kept: State = field(default_factory=dict)
    tokenizer: bytes | None = None
    notes: list[str] = field(default_factory=list)


def import_checkpoints(
    paths: Sequence[Path],
    out: Path,
    *,
    tokenizer: Path | None = None,
    modules: Sequence[str] | None = None,
    fill: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Read micro-omni's files and write the export folder `out`, atomically; returns notes for the user.

    tokenizer: their tokenizer.model, needed with a Thinker. modules: ours, default all in the files. fill: initialise what
    our modules have and theirs lack. options: module -> options that cannot be inferred (`module_options.ASSUMED`).
    Raises ValueError or FileNotFoundError, one line naming the file and the first keys or options that are wrong.
    """
    if out.exists() and not is_export(out) and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"out={out} holds something other than an export: name a new folder")
    result = read_checkpoints(paths, tokenizer=tokenizer, modules=modules, fill=fill, options=options or {})
    with tempfile.TemporaryDirectory() as folder:
        extra: dict[str, Path] = {}
        if result.tokenizer is not None:
            extra["tokenizer.model"] = Path(folder) / "tokenizer.model"
            extra["tokenizer.model"].write_bytes(result.tokenizer)
        if result.kept:
            extra[KEPT_FILE] = Path(folder) / KEPT_FILE
            save_file({key: value.contiguous() for key, value in result.kept.items()}, extra[KEPT_FILE])
        save_export(out, result.modules, metadata=result.metadata, files=extra)
    return result.notes


def read_checkpoints(
    paths: Sequence[Path],
    *,
    tokenizer: Path | None,
    modules: Sequence[str] | None,
    fill: bool,
    options: Mapping[str, Mapping[str, Any]],
) -> Import:
    """`import_checkpoints` without writing."""
    check_options(options)
    result, built, sources = Import(), dict[str, Built](), dict[str, Path]()
    for path in paths:
        checkpoint = files.read(path)
        document = _document(checkpoint, path)
        if document and len(paths) > 1:
            raise ValueError(f"{path} was written by muomni and is complete: import it by itself")
        for name in dict.fromkeys([*checkpoint.modules, *document.get("parts", {})]):
            if modules is not None and name not in modules:
                continue
            if name in sources:
                raise ValueError(f"{path}: the module {name!r} is in {sources[name]} too; name one of the two files")
            sources[name] = path
            try:
                built[name] = build(name, checkpoint, document, given=options.get(name, {}), fill=fill)
            except ValueError as error:
                raise ValueError(f"{path}, module {name!r}: {error}") from error
        result.kept |= checkpoint.kept
        result.metadata |= document.get("facts", {})
        if checkpoint.left_out:
            result.notes.append(f"{path}: left out, state of the training only: {', '.join(checkpoint.left_out)}")
    absent = [name for name in modules or () if name not in sources]
    if absent or not sources:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no module {', '.join(absent)} in it; it holds {', '.join(sources) or 'none'}, "
            f"and there are {', '.join(TABLES)}"
        )
    result.modules = {name: one.module for name, one in built.items()}
    result.notes += [note for one in built.values() for note in one.notes]
    check_compatible(result.modules, {}, where=", ".join(map(str, paths)))
    added = _add_tokenizer(result, tokenizer)
    if "facts" not in document or added:
        result.metadata[FACT] = _origin(paths, built, added)
    if "facts" not in document:
        _add_metadata(result)
    return result


def _document(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """The description of a file written by muomni, {} for another. Raises ValueError for an invalid one."""
    if not checkpoint.description:
        return {}
    where = f"{path}, its entry {files.OURS!r}"
    document = read_yaml(checkpoint.description, where=where)
    whole = isinstance(document, dict) and all(isinstance(document.get(key), dict) for key in ("parts", "facts"))
    if not whole or not all(isinstance(module, dict) for module in document["parts"].values()):
        raise ValueError(f"{where} describes no modules and facts")
    check_metadata(document["facts"], where=where)
    return document


def _origin(paths: Sequence[Path], built: Mapping[str, Built], added: int) -> dict[str, Any]:
    """The fact `micro_omni`: files, layout and dtype of each module (for an export), new keys."""
    origin = {
        "files": [path.name for path in paths],
        "layout": {name: one.layout for name, one in built.items() if one.layout},
        "dtype": {name: one.dtype for name, one in built.items() if one.dtype != "float32"},
        "new": [f"{name}.{key}" for name, one in built.items() for key in one.new],
        "added_pieces": added,
    }
    return {key: value for key, value in origin.items() if value}


def _add_tokenizer(result: Import, path: Path | None) -> int:
    """Extend tokenizer and Thinker by our special tokens; returns the number of added pieces."""
    thinker = cast(Thinker | None, result.modules.get("thinker"))
    if path is None and thinker is None:
        return 0
    if path is None:
        raise ValueError("a Thinker needs its tokenizer: tokenizer=PATH, the tokenizer.model of its training")
    if not path.is_file():
        raise FileNotFoundError(f"no such tokenizer: {path}")
    model = path.read_bytes()
    try:
        special = has_special_pieces(model)
        result.tokenizer = model if special else widened_tokenizer(model)
        tokenizer = Tokenizer(result.tokenizer)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    added = 0 if special else len(ADDED)
    if thinker is not None:
        pieces = tokenizer.vocab_size - added
        if thinker.vocab_size != pieces:
            raise ValueError(
                f"{path}: {pieces} pieces, but the Thinker has {thinker.vocab_size}: name its own tokenizer"
            )
        if added:
            result.modules["thinker"] = widened(thinker)
            result.notes.append(f"thinker: rows for our special tokens, the mean of the others: {' '.join(ADDED)}")
    if result.metadata.get("tokenizer") not in (None, tokenizer.fingerprint()):
        raise ValueError(f"{path}: not the tokenizer that the model was trained with: name its own")
    result.metadata["tokenizer"] = tokenizer.fingerprint()
    return added


def _add_metadata(result: Import) -> None:
    """Add the metadata that the engine needs and their files lack."""
    metadata, modules = result.metadata, result.modules
    alone = next(iter(modules)) if len(modules) == 1 else FACT
    metadata["stage"] = "talker" if modules.keys() == {"talker", "codec"} else alone
    for name, fact, mel in (("audio", "mel", MEL), ("codec", "codec_mel", CODEC_MEL)):
        if name in modules:
            metadata[fact] = replace(mel, bins=options_built(modules[name])["n_mels"]).metadata()
            result.notes.append(f"{name}: its spectrogram is ours, not that of its training; {DIFFERENCES} says how")
    if "vision" in modules:
        size = options_built(modules["vision"])["image_size"]
        metadata["image"] = ImageSpec(size=size, mean=NO_MEAN, std=NO_SCALE).metadata()
    if "talker" in modules and "codec" in modules:
        metadata["codec"] = weights_fingerprint(modules["codec"])
