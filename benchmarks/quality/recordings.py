"""What is measured on: files of the newest world of a root, and recordings with their texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from muomni.frontends.audio_io import read_audio

Clip = tuple[Tensor, str]  # waveform (N) and what is said in it


def world_files(root: str, *patterns: str, optional: bool = False) -> list[Path]:
    """Files of the newest world under ROOT/data/world. Raises FileNotFoundError where there are none, unless `optional`."""
    worlds = sorted(Path(root).glob("data/world/*/fingerprint.json"), key=lambda path: path.stat().st_mtime)
    files = [path for pattern in patterns for path in sorted(worlds[-1].parent.glob(pattern))] if worlds else []
    if not files and not optional:
        raise FileNotFoundError(
            f"no {patterns[0]} of a world under {root}/data/world: train a stage, or name files of your own"
        )
    return files


def read_clips(rows: Sequence[dict[str, Any]], rate: int, *, lowercase: bool) -> list[Clip]:
    """Waveforms and texts of the rows of a manifest of speech."""
    return [(read_audio(row["audio"], rate), row["text"].lower() if lowercase else row["text"]) for row in rows]
