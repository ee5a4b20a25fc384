"""What all checks of a GPU share: a row of the table, the clock of a device, and the rate of its memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

#: A row: `check`, `case`, `value`, `unit`, `aim` (None: none) and `ok`.
Row = dict[str, Any]


def row(
    check: str, case: str, value: float | None, unit: str, *, aim: float | None = None, ok: bool | None = None
) -> Row:
    """A row; `ok` follows from the aim, which `ms` may not exceed and other units must reach."""
    if ok is None:
        ok = value is not None and (aim is None or (value <= aim if unit == "ms" else value >= aim))
    return {"check": check, "case": case, "value": value, "unit": unit, "aim": aim, "ok": ok}


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Sizes of what is measured. thinker: a size of `conf/size`; rows and length of its training; new: tokens of an answer after
    a prompt of `prompt`; batches: rows of answers; copied: bytes by which the memory's rate is measured."""

    thinker: str
    rows: int
    length: int
    steps: int
    prompt: int
    new: int
    batches: tuple[int, ...]
    copied: int


#: As the aims are stated.
FULL = Shapes(thinker="base", rows=16, length=2048, steps=10, prompt=128, new=256, batches=(1, 64), copied=2**31)
#: For a test of the script itself.
TINY = Shapes(thinker="nano", rows=2, length=16, steps=2, prompt=4, new=6, batches=(1, 2), copied=2**20)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call, its work on the device included."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def memory_rate(device: torch.device, *, copied: int) -> float:
    """Bytes a second that a copy reads and writes, at best of five: what memory-bound work is a share of."""
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * copied / min(seconds_of(lambda: target.copy_(source), device) for _ in range(5))
