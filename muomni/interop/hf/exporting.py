"""An export's Thinker -> a folder of transformers: configuration, weights, tokenizer, chat template, model card.

    config.json  generation_config.json  model.safetensors  README.md
    tokenizer.json  tokenizer_config.json  special_tokens_map.json  tokenizer.model

No class of transformers is built and nothing of it is imported: the folder is data. It is there whole or not at all.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from muomni.checkpoints.atomic_write import atomic_folder
from muomni.checkpoints.export import save_tensors
from muomni.frontends.sentence_piece import SentencePieceModel
from muomni.interop.hf import run_metrics
from muomni.interop.hf.folder import CONFIG, WEIGHTS
from muomni.interop.hf.leaving import Leaving, read_leaving
from muomni.interop.hf.model_card import UNKNOWN, About, Facts, write_card
from muomni.interop.hf.tokenizer_export import tokenizer_files

#: What a command may be told of a model, with its default.
ABOUT: dict[str, Any] = {"name": "", "author": "", "description": "", "license": UNKNOWN, "languages": ()}


def export_folder(source: Path, out: Path, *, about: Mapping[str, Any], metrics: Path | None = None) -> list[str]:
    """Write the folder `out`; returns notes for the user. about: values of ABOUT. metrics: the metrics.json of the card; None:
    that of the run that made the export, if it is found. Raises ValueError or FileNotFoundError of one line."""
    check_new(out)
    leaving = read_leaving(source)
    write_folder(
        out, leaving, tensors=leaving.tensors, file_format="pt", card=card(source, out, leaving, about, metrics)
    )
    return notes_on(leaving, about)


def check_new(out: Path) -> None:
    """Raise ValueError where something is at `out`, or a file where one of its folders would be."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} exists already: name a new one")
    if any(parent.is_file() for parent in out.parents):
        raise ValueError(f"out={out}: a file is in the way of its folder: name another one")


def write_folder(
    out: Path,
    leaving: Leaving,
    *,
    tensors: Mapping[str, Tensor],
    file_format: str,
    card: str,
    more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Configuration, weights, tokenizer and card. file_format: what safetensors' header says of the names (pt, mlx). more: writes
    further files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    texts = tokenizer_files(leaving.tokenizer, max_length=leaving.config["max_position_embeddings"])
    ids = {f"{role}_token_id": leaving.special.get(role) for role in ("bos", "eos", "pad")}
    generation: dict[str, Any] = {**ids, "do_sample": False}
    if leaving.suppressed:
        generation["suppress_tokens"] = list(leaving.suppressed)
    with atomic_folder(out, own=()) as folder:
        _write_json(folder / CONFIG, leaving.config | ids)
        _write_json(folder / "generation_config.json", generation)
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_tensors(whole, folder / WEIGHTS, place=out, metadata={"format": file_format})
        shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # safetensors' own choice is that no one else may read it
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        if isinstance(leaving.tokenizer.model, SentencePieceModel):  # llama.cpp's own converter reads it, and only it
            (folder / leaving.tokenizer.file_name).write_bytes(leaving.tokenizer.content)
        (folder / "README.md").write_text(card, encoding="utf-8")
        more(folder)


def card(
    source: Path,
    out: Path,
    leaving: Leaving,
    about: Mapping[str, Any],
    metrics: Path | None,
    *,
    library: str = "transformers",
) -> str:
    """The model card."""
    run = run_metrics.find_run(source, leaving.metadata)
    file = metrics if metrics is not None else run / run_metrics.METRICS if run is not None else None
    said = About(**about)
    facts = Facts(
        architecture=leaving.config["architectures"][0], dtype=leaving.config["torch_dtype"], parameters=leaving.parameters,
        context=leaving.config["max_position_embeddings"], metadata=leaving.metadata,
        metrics={} if file is None else run_metrics.read_metrics(file),
        journal={} if run is None else run_metrics.read_journal(run), staying=leaving.staying,
        text_form=leaving.tokenizer.form, has_chat=leaving.chat_template is not None, library=library,
    )  # fmt: skip
    return write_card(said if said.name else replace(said, name=out.name), facts)


def notes_on(leaving: Leaving, about: Mapping[str, Any]) -> list[str]:
    """Notes of a command."""
    unlicensed = ["no license= given: the card says unknown"] if about["license"] == UNKNOWN else []
    return [*leaving.notes, *unlicensed]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
