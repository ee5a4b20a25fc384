"""The words of the export commands: one export, out=, and what a model card says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muomni.cli.key_value import read_options
from muomni.interop.hf.exporting import ABOUT
from muomni.user_path import user_path


@dataclass(frozen=True, slots=True)
class Words:
    """source: the export. about: values of ABOUT. rest: further options."""

    source: Path
    out: Path
    about: dict[str, Any]
    metrics: Path | None
    rest: dict[str, Any]


def read_words(program: str, words: list[str], more: Mapping[str, Any] | None = None) -> Words:
    """more: further options with their defaults. Raises ValueError naming an unknown option, or with the usage."""
    sources = [word for word in words if "=" not in word]
    defaults = {"out": "", "metrics": "", **ABOUT, **(more or {})}
    options = read_options([word for word in words if "=" in word], defaults)
    if len(sources) != 1 or not options["out"]:
        where = "FILE.gguf" if program == "gguf" else "FOLDER"
        raise ValueError(f"usage:  python -m muomni.interop.{program} export checkpoints/NAME out={where}")
    return Words(
        user_path(sources[0]), user_path(options["out"]), {key: options[key] for key in ABOUT},
        user_path(options["metrics"]) if options["metrics"] else None, {key: options[key] for key in more or {}},
    )  # fmt: skip
