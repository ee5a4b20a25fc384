"""An export that a stage names at its start and loads when it is needed: at the hand-over, or when it is measured."""

from pathlib import Path
from typing import Any

from muomni.checkpoints.export import Export, load_export, read_description


class DeferredExport:
    """The metadata of an export that is there; its weights take no memory until `load`.

    Raises FileNotFoundError or ValueError naming the folder, as `load_export`.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.metadata: dict[str, Any] = read_description(self.folder)["facts"]

    def load(self) -> Export:
        """The export as it is now, which another run may have replaced; `metadata` are its own from then on."""
        export = load_export(self.folder)
        self.metadata = export.metadata
        return export
