"""A Hugging Face folder -> an export folder, read and written tensor by tensor.

The vocabulary becomes ours on the way: our special tokens come first, rows that the model lacks start at the mean of its own
(muomni/frontends/vocabulary_map.py). The tensors keep their dtype: half precision stays half the size on the disk.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni.checkpoints.export import is_export
from muomni.checkpoints.streamed import save_streamed
from muomni.frontends.hf_tokenizer_files import read_pretrained
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.hf.folder import find_folder, read_folder
from muomni.interop.hf.thinker import ThinkerPlan, plan_thinker
from muomni.user_path import user_path

log = logging.getLogger(__name__)

CHUNK = 1 << 14  # rows of an embedding at a time
VOCABULARY = ("embedding.weight", "head.weight")  # whose rows are tokens


@dataclass(frozen=True, slots=True)
class ImportedThinker:
    """What an import writes: description of the Thinker, shapes and dtypes of its tensors, `read`, which returns one of them,
    metadata, and files."""

    description: dict[str, Any]
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]]
    read: Callable[[str], Tensor]
    metadata: dict[str, Any]
    files: dict[str, bytes]


def read_import(source: str | Path, *, tokenizer: Path | None = None, max_length: int | None = None) -> ImportedThinker:
    """A folder or a repository of the hub, checked. tokenizer: a tokenizer.json, or a folder with one; None is the folder's own.
    max_length: a shorter longest sequence, which takes less memory in answers.

    Raises ValueError or FileNotFoundError, one line naming file and key.
    """
    folder = read_folder(source)
    plan = plan_thinker(folder, max_length=max_length)
    content = read_pretrained(folder.path if tokenizer is None else tokenizer, rows=plan.options["vocab_size"])
    words = Tokenizer(content)
    size, shapes = words.vocab_size, plan.shapes()
    for key in VOCABULARY:
        (_, *rest), dtype = shapes[key]
        shapes[key] = ((size, *rest), dtype)

    def read(key: str) -> Tensor:
        tensor = plan.read(key)
        return words.vocabulary.into(tensor) if key in VOCABULARY else tensor

    description = {"part": "thinker", "options": plan.options | {"vocab_size": size}}
    metadata = {"stage": "thinker", "tokenizer": words.fingerprint(), "hf": import_metadata(plan)}
    return ImportedThinker(description, shapes, read, metadata, {words.file_name: content})


def import_thinker(
    source: str | Path, out: Path, *, tokenizer: Path | None = None, max_length: int | None = None
) -> list[str]:
    """Write the export of a folder's decoder (`read_import`), whole or not at all; returns notes."""
    found = read_import(source, tokenizer=tokenizer, max_length=max_length)
    save_streamed(
        out, {"thinker": found.description},
        tensors={f"thinker.{key}": about for key, about in found.shapes.items()},
        read=lambda key: found.read(key.removeprefix("thinker.")), metadata=found.metadata, files=found.files,
    )  # fmt: skip
    numbers = sum(torch.Size(shape).numel() for key, (shape, _) in found.shapes.items() if key != "head.weight")
    origin, options = found.metadata["hf"], found.description["options"]
    alone = "its image encoder and projector are left out: the text model comes in alone"
    return [
        *([alone] if origin["with_images"] else []),
        f"{origin['model_type']}: {numbers / 1e6:.1f} million numbers in {origin['dtype']}, "
        f"{options['vocab_size']} tokens, a context of {options['max_length']}",
    ]


def import_metadata(plan: ThinkerPlan) -> dict[str, Any]:
    """The fact `hf` of an export: where it came from, and what an export to Hugging Face restores."""
    return {
        "model_type": plan.model_type,
        "dtype": plan.dtype_name(),
        "max_position_embeddings": plan.max_length,
        "source": plan.folder.path.name,
        "with_images": plan.folder.config["model_type"] == "gemma3",
        "embedding_norm": _embedding_norm(plan),
    }


def _embedding_norm(plan: ThinkerPlan) -> float:
    """The mean norm of the tokens that enter the Thinker, to which projectors bring those of images and audio at first."""
    rows = plan.read("embedding.weight")
    total = sum(float(some.float().norm(dim=1).sum()) for some in rows.split(CHUNK))
    return round(total / len(rows) * plan.options["embedding_scale"], 4)


def imported(source: str | Path, cache: Path, *, max_length: int | None = None) -> Path:
    """The export of a folder's decoder: the source itself if it is an export, else one in `cache`, written unless it is there.

    Its name holds what it was made of: the source's path, and its files' sizes and times.
    """
    path = user_path(source)
    if is_export(path):
        return path
    folder = find_folder(source)
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.glob("*.*"))
    key = hashlib.sha256(repr((str(folder.resolve()), files, max_length)).encode()).hexdigest()[:12]
    export = cache / f"{folder.name}-{key}"
    if not is_export(export):
        for note in import_thinker(folder, export, max_length=max_length):
            log.info("%s, imported to %s", note, export)
    return export
