"""python -m muomni.inference.scheduling.packages     builds the packages of compiled steps for a scheduler (background_build.py)

Reads what is wanted as a line of JSON from its input and writes a line for each package. It ends when its input does: whoever
started it has ended.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.inference.errors import MuomniError
from muomni.inference.scheduling.compiled_rows import CompiledRows
from muomni.inference.scheduling.slots import SlotCache
from muomni.models.thinker import Thinker

LOWEST = 19  # priority


def build(wanted: dict[str, Any], *, built: Callable[[], None]) -> None:
    """Build the packages that are missing; `built` is called after each. wanted: what `CompiledRows` knows of itself. Weights are
    no part of a package: any of the shape will do. Raises MuomniError without a compiler."""
    torch.set_num_threads(wanted["threads"])
    thinker = Thinker(**wanted["options"]).eval().requires_grad_(False)
    set_weight_dtype(thinker, wanted["dtype"])
    cache = SlotCache(thinker, rows=wanted["rows"])
    packages = None if wanted["packages"] is None else Path(wanted["packages"])
    for most in sorted({1, wanted["max_rows"]}):  # the step of one row first: most servers answer one request at a time
        CompiledRows(thinker, cache, mode="max", packages=packages, max_rows=most)
        built()


def main() -> None:
    """Of the process."""
    os.nice(LOWEST)
    wanted = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        build(wanted, built=lambda: print("built", flush=True))
    except MuomniError as error:
        sys.exit(str(error))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _end_with_input() -> None:
    sys.stdin.read()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)  # compilers too
    os._exit(1)


if __name__ == "__main__":
    main()
