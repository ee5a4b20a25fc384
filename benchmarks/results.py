"""The results of a benchmark as JSON, with the machine that they were measured on."""

import json
import sys
from pathlib import Path
from typing import Any

from muomni.run.hardware import describe_machine


def write_results(out: str | Path, results: dict[str, Any], **layout: Any) -> None:
    """Write `results` and `machine` to a file, its folder included; nothing if `out` is empty."""
    if not out:
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": describe_machine()} | results, indent=2, **layout) + "\n")
    print(f"written: {path}", file=sys.stderr)
