"""A Thinker that begins with the weights of an export (`thinker=hf`)."""

from pathlib import Path
from typing import Any

from muomni.checkpoints.export import load_export, load_strictly
from muomni.models.thinker import Thinker


def pretrained_thinker(*, folder: str | Path, **options: Any) -> Thinker:
    """A Thinker of these options with the weights of the export in `folder`. Raises ValueError where they do not fit."""
    thinker = Thinker(**options)
    load_strictly(thinker, load_export(folder, ["thinker"]).modules["thinker"].state_dict(), where=str(folder))
    return thinker
