"""Export folders: what a stage hands over and what inference loads.

    model.yaml          format, facts (stage, frontends, fingerprints) and, for each part, its name and options
    model.safetensors   tensors, keys `<part>.<state-dict key>`
    <files>             tokenizer.model and the like, as they are

Loading is strict: a missing, unexpected or mis-shaped key is an error that names it. Nothing in a folder is executed:
a part's class is looked up in `muomni.models.part.PARTS`.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import muomni.models  # noqa: F401  (registers every part)
from muomni.models.part import PARTS

log = logging.getLogger(__name__)

FORMAT = 1


@dataclass(slots=True)
class Export:
    """A loaded export: parts by name (in eval mode), facts, its folder (or single file), and the content of its
    tokenizer.model, if it has one."""

    parts: dict[str, nn.Module]
    facts: dict[str, Any]
    folder: Path
    tokenizer: bytes | None = None

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer's file. Raises FileNotFoundError where the export has none."""
        path = self.folder / "tokenizer.model"
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder}: this export has no tokenizer.model")
        return path


def weights_fingerprint(module: nn.Module) -> str:
    """sha256 (16 hex digits) over names, shapes and bytes of a module's state: equal only for equal weights."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def first_broken(tensors: Mapping[str, Tensor]) -> str | None:
    """`KEY holds NaN=3, Inf=0` of the first tensor that is not finite; None where all are. One read of the device, unless
    there is one."""
    # A DTensor is told by its method: importing the class takes longer than all else that an answer needs.
    floating = {
        key: value.to_local() if hasattr(value, "to_local") else value
        for key, value in ((key, value.detach()) for key, value in tensors.items() if value.is_floating_point())
    }
    if not floating:
        return None
    sums = {key: value.sum(dtype=torch.float32) for key, value in floating.items()}
    device = next(iter(sums.values())).device
    finite = torch.stack([value.to(device) for value in sums.values()]).isfinite().tolist()
    for key, good in zip(floating, finite, strict=True):
        if not good:  # or a sum that overflowed
            nan, inf = int(floating[key].isnan().sum()), int(floating[key].isinf().sum())
            if nan or inf:
                return f"{key} holds NaN={nan}, Inf={inf}"
    return None


def save_export(
    folder: Path | str, parts: Mapping[str, nn.Module], *, facts: Mapping[str, Any], files: Mapping[str, Path]
) -> Path:
    """Write an export folder, whole or not at all: a temporary folder beside it takes its place at the end.

    parts: name -> a module registered with `@part`. facts: plain data. files: name in the folder -> file to copy.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    document, tensors = describe(parts, facts, where=str(folder))
    for killed in folder.parent.glob(f".{folder.name}.*"):  # what a process left that was killed while it exported
        shutil.rmtree(killed, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        save_file(tensors, temporary / "model.safetensors")
        (temporary / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        for name, source in files.items():
            shutil.copyfile(source, temporary / name)
        _replace_folder(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, SafetensorError):  # its way of saying that the disk is full
            raise RuntimeError(f"cannot write {folder}: {error}") from error
        raise
    return folder


def describe(
    parts: Mapping[str, nn.Module], facts: Mapping[str, Any], *, where: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What model.yaml says of parts, and their tensors by key. Raises ValueError for NaN or Inf."""
    tensors: dict[str, Tensor] = {}
    for name, module in parts.items():
        broken = first_broken(module.state_dict())
        if broken is not None:
            raise ValueError(f"{where}: {name}.{broken}; a broken model is not exported")
        for key, value in module.state_dict().items():
            tensors[f"{name}.{key}"] = value.detach().cpu().clone().contiguous()
    return document_of(parts, facts), tensors


def document_of(parts: Mapping[str, nn.Module], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What model.yaml says of parts: format, facts, and the options that each is built with."""
    described = {name: {"part": part.part_name, "options": part.options} for name, part in parts.items()}
    return {"format": FORMAT, "facts": dict(facts), "parts": described}


def _replace_folder(new: Path, target: Path) -> None:
    """Put `new` at `target`; what stood there goes away last."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def is_export(folder: Path | str) -> bool:
    """Whether a folder holds a finished export."""
    return (Path(folder) / "model.yaml").is_file() and (Path(folder) / "model.safetensors").is_file()


def list_exports(root: Path | str) -> list[Path]:
    """Exports directly under a folder, by name: folders and single files."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if is_export(path) or path.suffix == ".safetensors")


def read_description(folder: Path | str) -> dict[str, Any]:
    """model.yaml of an export, checked. Raises FileNotFoundError or ValueError naming the file."""
    path = Path(folder) / "model.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no export here (no model.yaml)")
    try:
        document = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    return checked(document, where=str(path))


def checked(document: Any, *, where: str) -> dict[str, Any]:
    """A description as it must be. Raises ValueError naming what it lacks."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{where}: not an export of format {FORMAT}")
    for key in ("facts", "parts"):
        if not isinstance(document.get(key), dict):
            raise ValueError(f"{where}: no {key!r} in it; the export is damaged, train it again")
    return document


def load_export(folder: Path | str, parts: Iterable[str] | None = None) -> Export:
    """Rebuild the parts of an export (all, or the named ones), in eval mode, on the CPU. A Talker's codec must be the one
    that it was trained with."""
    folder = Path(folder)
    document = read_description(folder)
    weights = folder / "model.safetensors"
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights}: cannot be read ({error}); the export is damaged, train it again") from error
    tokenizer = folder / "tokenizer.model"
    built = build_parts(document, tensors, parts, where=str(folder), weights=str(weights))
    return Export(built, document["facts"], folder, tokenizer.read_bytes() if tokenizer.is_file() else None)


def build_parts(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], parts: Iterable[str] | None, *, where: str, weights: str
) -> dict[str, nn.Module]:
    """A description and the tensors that go with it -> all parts, or the named ones. `where`, `weights`: for errors."""
    described: dict[str, Any] = document["parts"]
    wanted = list(described) if parts is None else list(parts)
    missing = [name for name in wanted if name not in described]
    if missing:
        raise ValueError(f"{where}: this export has no part {missing[0]!r}; it holds {', '.join(described)}")
    surplus = [key for key in tensors if key.split(".", 1)[0] not in described]
    if surplus:
        raise ValueError(f"{weights}: unexpected key {surplus[0]!r}")
    built = {}
    for name in wanted:
        state = {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
        built[name] = build_part(described[name], where=f"{where}, part {name!r}")
        load_strictly(built[name], state, where=f"{weights}, part {name!r}")
        built[name].eval()
    facts = document["facts"]
    if "codec" in built and "codec" in facts:
        check_same(facts, {"codec": weights_fingerprint(built["codec"])}, where=where)
    return built


def build_part(description: Mapping[str, Any], *, where: str) -> nn.Module:
    """Build a part from its name and options; `where` goes into the error."""
    kind = description.get("part") if isinstance(description, Mapping) else description
    if not isinstance(kind, str) or kind not in PARTS:
        raise ValueError(f"{where}: unknown kind of part {kind!r}; known: {', '.join(sorted(PARTS))}")
    try:
        return PARTS[kind](**description.get("options", {}))
    except (TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: options do not fit {kind}: {error}") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict whose keys and shapes must be the module's own; the first that differ are named."""
    own = module.state_dict()
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or surplus:
        raise ValueError(f"{where}: missing keys {missing[:3]}, unexpected keys {surplus[:3]}")
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise ValueError(f"{where}: {key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}")
    broken = first_broken(state)
    if broken is not None:
        raise ValueError(f"{where}: {broken}: the model is broken, train it again")
    module.load_state_dict(dict(state))


def check_same(
    facts: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    where: str,
    remedy: str = "train both with the same settings, or remove the export to train it again",
) -> None:
    """Each expected fact must stand in `facts` with the same value: tokenizer, mel, image and codec of a hand-over.

    Raises ValueError naming the fact and both values.
    """
    for key, value in expected.items():
        if facts.get(key) != value and not _is_older(facts.get(key), value, where):
            raise ValueError(
                f"{where}: {key} differs: it was trained with {facts.get(key)!r}, this run has {value!r}; {remedy}"
            )


def trained_characters(export: Path) -> str | None:
    """The characters of its own that a trained model spells with."""
    parts = read_description(export)["parts"].values() if is_export(export) else ()
    own = (part["options"].get("characters") for part in parts)
    return next((characters for characters in own if isinstance(characters, str)), None)


def _is_older(stored: Any, value: Any, where: str) -> bool:
    """Whether the facts of pictures are alike but for what exports of earlier versions do not say: they were trained on the
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
