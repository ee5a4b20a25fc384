"""A line of text in the run folder by which a resumed run continues the run of a logger."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from muomni.checkpoints.atomic_write import write_text


def read_note(note: Path) -> str | None:
    """Its text, or None where there is none."""
    return note.read_text().strip() if note.is_file() else None


@rank_zero_only
def write_note(note: Path, text: str) -> None:
    """Write it, once."""
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, text + "\n")
