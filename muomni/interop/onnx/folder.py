"""An export -> a folder of ONNX files that is used without muomni: the graphs, model.json, README.md, tokenizer and tokens.txt.

The folder is whole or not there.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from muomni import __version__
from muomni.checkpoints.atomic_write import atomic_folder
from muomni.checkpoints.export import Export
from muomni.checkpoints.single_file import read_export
from muomni.frontends.hf_tokenizer import is_packed, unpack
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.onnx import parts
from muomni.interop.onnx.encoders import symbols
from muomni.interop.onnx.graph import NUMBERS, OPSETS, require_packages, write_graph
from muomni.interop.onnx.readme import readme
from muomni.interop.onnx.sherpa import RATE, tokens_text, write_recognizer

DESCRIPTION, README, TOKENS = "model.json", "README.md", "tokens.txt"
FORMAT = 1


def export_onnx(
    source: Path, out: Path, *, wanted: Sequence[str], opset: int, dtype: str, report: Callable[[str], None]
) -> None:
    """Write the graphs `wanted` of an export (all that it has, if none is named) to a new folder. report: takes a line for each
    graph when it is done, and for what has none.

    Raises ValueError or FileNotFoundError, one line, before anything is written for bad input, and without leaving anything.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset={opset}: from {OPSETS[0]} to {OPSETS[-1]}")
    if dtype not in NUMBERS:
        raise ValueError(f"dtype={dtype}: {', '.join(NUMBERS)}")
    if out.exists() or out.is_symlink():
        raise ValueError(f"out={out} exists already: name another folder")
    require_packages()
    export = read_export(source)
    names = parts.choose(export, wanted)
    _check_rate(export, names, wanted=bool(wanted))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out, own=()) as temporary:
        described = {}
        for name in names:
            described[name], note = _write(name, export, temporary, opset=opset, dtype=dtype)
            report(f"{name}.onnx: {note}")
        document = _document(export, described, temporary, opset=opset, dtype=dtype)
        (temporary / DESCRIPTION).write_text(
            json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (temporary / README).write_text(readme(document), encoding="utf-8")
    for line in parts.left_out(export):
        report(line)


def _check_rate(export: Export, names: list[str], *, wanted: bool) -> None:
    """Leave the recognizer out of `names` where sherpa-onnx would give it another rate; where it is wanted, raise ValueError."""
    if parts.RECOGNIZER in names and (rate := parts.mel_of(export, "mel").sample_rate) != RATE:
        if wanted:
            raise ValueError(
                f"{export.folder}: no recognizer.onnx: sherpa-onnx takes waveforms at {RATE} Hz, this encoder at {rate}: "
                "use hearing and audio"
            )
        names.remove(parts.RECOGNIZER)


def _write(name: str, export: Export, folder: Path, *, opset: int, dtype: str) -> tuple[dict[str, Any], str]:
    """Write one graph to a folder -> its description for model.json, and what to tell the user."""
    if name == parts.RECOGNIZER:
        described = _write_recognizer(export, folder, opset=opset, dtype=dtype)
        return described, "hearing.onnx and audio.onnx in one, for sherpa-onnx"
    graph = parts.build(export, name)
    difference = write_graph(graph, folder / f"{name}.onnx", opset=opset, dtype=dtype)
    return graph.described(), f"differs from torch by {difference:.1g} at most, of the largest number"


def _write_recognizer(export: Export, folder: Path, *, opset: int, dtype: str) -> dict[str, Any]:
    """recognizer.onnx and tokens.txt; the two graphs that it is made of are written first, where they are not yet."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        files = {}
        for name in ("hearing", "audio"):
            files[name] = folder / f"{name}.onnx"
            if not files[name].is_file():
                files[name] = Path(own) / f"{name}.onnx"
                write_graph(parts.build(export, name), files[name], opset=opset, dtype=dtype)
        described = write_recognizer(folder / f"{parts.RECOGNIZER}.onnx", **files)
    audio: Any = export.modules["audio"]
    (folder / TOKENS).write_text(tokens_text(symbols(audio)), encoding="utf-8")
    return {**described, "symbols": symbols(audio), "mel": export.metadata["mel"]}


def _document(export: Export, described: dict[str, Any], folder: Path, *, opset: int, dtype: str) -> dict[str, Any]:
    """model.json."""
    made = f"muomni {__version__}"
    document: dict[str, Any] = {"format": FORMAT, "made_by": made, "opset": opset, "dtype": dtype, "graphs": described}
    if export.tokenizer is not None and {"thinker", "text_tower"} & set(described):
        document["tokenizer"] = _write_tokenizer(export.tokenizer, folder)
    return document


def _write_tokenizer(content: bytes, folder: Path) -> dict[str, Any]:
    """The tokenizer's files, as their library reads them -> what else has to be known: how a conversation is written, and of a
    pretrained model's tokenizer which of the graphs' ids each of its own ids is."""
    tokenizer = Tokenizer(content)
    files = unpack(content)["files"] if is_packed(content) else {tokenizer.file_name: content}
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    described = {"file": tokenizer.file_name, "chat": tokenizer.chat.data()}
    return described | ({"ids": list(tokenizer.vocabulary.places)} if is_packed(content) else {})
