"""Export folders: what a stage hands over and what inference loads.

    model.yaml          format, `facts` (metadata: stage, frontends, fingerprints), name and options of each module
    model.safetensors   tensors, keys `<module>.<state-dict key>`
    <files>             the tokenizer (tokenizer.model or tokenizer.json) and the like, as they are

Loading is strict: a missing, unexpected or mis-shaped key is an error that names it. Nothing in a folder is executed:
a module's class is looked up in `muomni.models.registry.ARCHITECTURES` (assembly.py).
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from muomni import aliases
from muomni.checkpoints import schema
from muomni.checkpoints.assembly import assemble
from muomni.checkpoints.assembly import first_broken as first_broken
from muomni.checkpoints.assembly import load_strictly as load_strictly
from muomni.checkpoints.atomic_write import atomic_folder, follow
from muomni.checkpoints.safe_load import read_safetensors

log = logging.getLogger(__name__)

FORMAT = 1
DESCRIPTION, WEIGHTS = "model.yaml", "model.safetensors"
#: Files of a tokenizer: SentencePiece's, or a pretrained model's. An export has one of them.
TOKENIZERS = ("tokenizer.model", "tokenizer.json")
#: What an export's folder holds of ours (`compiled`: of earlier versions); a new export takes its place.
OWN = (DESCRIPTION, WEIGHTS, *TOKENIZERS, "micro_omni.safetensors", "compiled")


@dataclass(slots=True)
class Export:
    """A loaded export: modules by name (in eval mode), metadata, its folder (or single file), and the content of its
    tokenizer's file, if it has one."""

    modules: dict[str, nn.Module]
    metadata: dict[str, Any]
    folder: Path
    tokenizer: bytes | None = None

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's file. Raises FileNotFoundError where the export has none."""
        path = find_tokenizer(self.folder)
        if path is None:
            raise FileNotFoundError(f"{self.folder}: this export has no tokenizer")
        return path

    @property
    def tokenizer_name(self) -> str:
        """The name of the tokenizer's file, for messages."""
        return (find_tokenizer(self.folder) or Path(TOKENIZERS[0])).name


def find_tokenizer(folder: Path | str) -> Path | None:
    """The file of an export's tokenizer, if it has one."""
    return next((path for name in TOKENIZERS if (path := Path(folder) / name).is_file()), None)


def weights_fingerprint(module: nn.Module) -> str:
    """sha256 (16 hex digits) over names, shapes and bytes of a module's state: equal only for equal weights."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def save_export(
    folder: Path | str, modules: Mapping[str, nn.Module], *, files: Mapping[str, Path], metadata: Mapping[str, Any]
) -> Path:
    """Write an export folder, whole or not at all: a temporary folder next to it takes its place at the end. A symbolic link
    stays; what else someone put into the folder stays too.

    modules: name -> a module registered by `@register`. metadata: plain data.
    files: name in the folder -> file to copy.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_place(folder)
    document, tensors = describe(modules, metadata, where=str(folder))
    with atomic_folder(folder, own=OWN) as temporary:
        description, weights = temporary / DESCRIPTION, temporary / WEIGHTS
        description.write_text(yaml.safe_dump(document, sort_keys=False))
        save_tensors(tensors, weights, place=folder)
        shutil.copymode(description, weights)  # safetensors' own choice is that no one else may read it
        for name, source in files.items():
            shutil.copyfile(source, temporary / name)
    return folder


def save_tensors(
    tensors: dict[str, Tensor], path: Path, *, place: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a .safetensors. Raises RuntimeError naming `place`, as the user knows it, where the disk is full."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # its way of saying so
        raise RuntimeError(f"cannot write {place}: {error}") from error


def check_place(folder: Path | str) -> None:
    """Raise ValueError where an export would take the place of something else, FileNotFoundError where the folder is a symbolic
    link that leads nowhere."""
    folder = Path(folder)
    target = follow(folder)
    if target.is_dir() and not is_export(target):
        foreign = sorted(
            name for name in os.listdir(target) if name not in OWN and name[0] != "." and name != "lost+found"
        )
        if foreign:
            raise ValueError(
                f"{folder} holds other things than an export ({', '.join(foreign[:3])}), which stay untouched: move them away, "
                "or keep the exports elsewhere by paths.root=DIR"
            )
    elif target.exists() and not target.is_dir():
        raise ValueError(f"{folder} is a file where an export's folder would be: move it away")


def describe(
    modules: Mapping[str, nn.Module], metadata: Mapping[str, Any], *, where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What model.yaml says of modules, and their tensors by key. Raises ValueError for NaN or Inf."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        broken = first_broken(module.state_dict())
        if broken is not None:
            raise ValueError(f"{where}: {name}.{broken}; a broken model is not exported")
        for key, value in module.state_dict().items():
            tensors[f"{name}.{key}"] = value.detach().cpu().clone().contiguous()
    return document_of(modules, metadata), tensors


def document_of(modules: Mapping[str, nn.Module], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What model.yaml says of modules: format, metadata, and the options that each is built with."""
    described = {name: {"part": module.architecture, "options": module.options} for name, module in modules.items()}
    return {"format": FORMAT, "facts": dict(metadata), "parts": described}


def is_export(folder: Path | str) -> bool:
    """Whether a folder holds a finished export."""
    return (Path(folder) / DESCRIPTION).is_file() and (Path(folder) / WEIGHTS).is_file()


def list_exports(root: Path | str) -> list[Path]:
    """Exports directly under a folder, by name: folders and single files."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if is_export(path) or path.suffix == ".safetensors")


def read_description(folder: Path | str) -> dict[str, Any]:
    """model.yaml of an export, checked. Raises FileNotFoundError or ValueError naming the file."""
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no export here (no model.yaml)")
    check_readable(path)
    if path.stat().st_size > 4 * schema.MOST_BYTES:
        raise ValueError(f"{path}: not readable as YAML: {path.stat().st_size} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    return checked(schema.read_yaml(text, where=str(path)), where=str(path))


def check_readable(path: Path) -> None:
    """Raise ValueError for a file that this user may not read."""
    try:
        with path.open("rb"):
            pass
    except PermissionError as error:
        raise ValueError(f"{path}: no permission to read it: its owner can allow it by  chmod a+r {path}") from error


def checked(document: Any, *, where: str) -> dict[str, Any]:
    """A description as it must be, in plain data. Raises ValueError naming what it lacks, or what in it is out of bounds."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{where}: not an export of format {FORMAT}")
    document = schema.plain_data(document, where=where)
    for key in ("facts", "parts"):
        if not isinstance(document.get(key), dict):
            raise ValueError(f"{where}: no {key!r} in it; the export is damaged, train it again")
    document = aliases.description(document)
    schema.check_metadata(document["facts"], where=where)
    return document


def load_export(folder: Path | str, modules: Iterable[str] | None = None) -> Export:
    """Rebuild the modules of an export (all, or the named ones), in eval mode, on the CPU. A Talker's codec, and
    the Thinker whose states it is told, must be those that it was trained with."""
    folder = Path(folder)
    document = read_description(folder)
    weights, tokenizer = folder / WEIGHTS, find_tokenizer(folder)
    if not weights.is_file():
        raise FileNotFoundError(f"{folder}: no export here (no model.safetensors)")
    check_readable(weights)
    try:
        tensors, _ = read_safetensors(weights)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}; the export is damaged, train it again") from error
    built = build_modules(document, tensors, modules, where=str(folder), weights=str(weights))
    content = None
    if tokenizer is not None:
        check_readable(tokenizer)
        content = tokenizer.read_bytes()
    return Export(built, document["facts"], folder, content)


def build_modules(
    document: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    modules: Iterable[str] | None,
    *,
    where: str,
    weights: str,
) -> dict[str, nn.Module]:
    """A description and the tensors that go with it -> all modules, or the named ones. `where`, `weights`: for errors."""
    described: dict[str, Any] = document["parts"]
    wanted = list(described) if modules is None else list(modules)
    missing = [name for name in wanted if name not in described]
    if missing:
        raise ValueError(f"{where}: this export has no module {missing[0]!r}; it holds {', '.join(described)}")
    states: dict[str, dict[str, Tensor]] = {name: {} for name in described}
    for key, value in tensors.items():
        name, _, rest = key.partition(".")
        if name not in states:
            raise ValueError(f"{weights}: unexpected key {key!r}")
        states[name][rest] = value
    built = {}
    for name in wanted:
        module_of = f"module {name!r}"
        said, tensors_of = f"{where}, {module_of}", f"{weights}, {module_of}"
        built[name] = assemble(described[name], states[name], where=said, weights=tensors_of)
    metadata = document["facts"]
    for name in ("codec", "talker_thinker"):  # of which a Talker has learned to speak the codes, and to hear the states
        if name in built and metadata.get(name) is not None:
            check_same(metadata, {name: weights_fingerprint(built[name])}, where=where)
    return built


def check_same(
    metadata: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    where: str,
    remedy: str = "train both with the same settings, or remove the export to train it again",
) -> None:
    """Each expected fact must stand in `metadata` with the same value: tokenizer, mel, image and codec of a hand-over.

    Raises ValueError naming the fact and both values.
    """
    for key, value in expected.items():
        if metadata.get(key) != value and not _is_older(metadata.get(key), value, where):
            raise ValueError(
                f"{where}: {key} differs: it was trained with {metadata.get(key)!r}, this run has {value!r}; {remedy}"
            )


def trained_characters(export: Path) -> str | None:
    """The characters of its own that a trained model spells with."""
    modules = read_description(export)["parts"].values() if is_export(export) else ()
    options = (module.get("options") for module in modules if isinstance(module, Mapping))
    own = (each.get("characters") for each in options if isinstance(each, Mapping))
    return next((characters for characters in own if isinstance(characters, str)), None)


def trained_form(export: Path) -> str | None:
    """The form of the texts that a model was trained on (muomni/frontends/text_form.py)."""
    said = read_description(export)["facts"].get("text") if is_export(export) else None
    return str(said["form"]) if isinstance(said, Mapping) and "form" in said else None


def _is_older(stored: Any, value: Any, where: str) -> bool:
    """Whether the metadata of images is the same but for what exports of earlier versions do not say: they were trained on the
    centre square, on black, which of square pictures without transparency is the same. Logs it."""
    if not isinstance(stored, Mapping) or not isinstance(value, Mapping) or "matte" in stored or "matte" not in value:
        return False
    if any(stored.get(key) != value[key] for key in value if key not in ("fit", "matte")):
        return False
    log.warning(
        "%s: trained on the centre squares of pictures, on black; this run sees fit=%s on %s, the same for square pictures "
        "without transparency", where, value["fit"], value["matte"],
    )  # fmt: skip
    return True
