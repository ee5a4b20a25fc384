"""The results of a benchmark: as a table, and as JSON with the machine that they were measured on."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from muomni.run.hardware import describe_machine


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the keys of the first, in columns: text on the left, numbers of three digits on the right; None is a dash."""
    cells = [list(rows[0]), *([_cell(row.get(key)) for key in rows[0]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [isinstance(value, str) for value in rows[0].values()]
    aligned = (
        (c.ljust(w) if text else c.rjust(w) for c, w, text in zip(line, widths, left, strict=True)) for line in cells
    )
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


def write_results(out: str | Path, results: dict[str, Any]) -> None:
    """Write `results`, `machine` and `date` to a file, its folder included; nothing if `out` is empty."""
    if not out:
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"machine": describe_machine(), "date": date.today().isoformat()}
    path.write_text(json.dumps(stamp | results, indent=2) + "\n")
    print(f"written: {path}", file=sys.stderr)
