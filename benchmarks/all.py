"""python -m benchmarks.all     every speed that is compared, in one table: ours, the peer, the ratio, the floor, and the aim.

    run=false       true: measure again on this machine, into root=, instead of reading the committed results
    only=a,b        of: training, decode, decode_smollm2, kernels, first_sound
    root=reports/speed      where run=true writes

Without run=true it prints what is committed in benchmarks/results, each with its machine and day: rows of unlike machines are
not to be compared with each other. A ratio above 1 is faster than the peer. "x floor": how many times the least time that the
arithmetic, or reading the weights, would take by rates measured in the same run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import table
from benchmarks.speed import decode, training
from benchmarks.speed.first_sound import AIM_MS
from muomni.cli.key_value import read_options, run_program
from muomni.inference.validation import require_one_of
from muomni.program import ROOT

OWN = {"run": False, "only": (), "root": "reports/speed"}
COMMITTED = ROOT / "benchmarks" / "results"
Row = dict[str, Any]


def row(name: str, ours: float, unit: str, *, peer: str = "-", peers: float | None = None, ratio: float | None = None,
        floor: float | None = None, aim: float | None = None, met: bool | None = None) -> Row:  # fmt: skip
    """A line of the table. floor: how many times the least time ours is."""
    if met is None and aim is not None and ratio is not None:
        met = ratio >= aim
    return {
        "row": name, "ours": ours, "unit": unit, "peer": peer, "peer's": peers, "ratio": ratio, "x floor": floor, "aim": aim,
        "met": "-" if met is None else "yes" if met else "no",
    }  # fmt: skip


def training_rows(result: dict[str, Any]) -> list[Row]:
    """Of benchmarks.speed.training."""
    models = dict(result["models"])
    ours = models.pop("muomni")
    strongest = max(models, key=lambda name: models[name]["tokens_per_cpu_second"])
    return [
        row(
            f"training step, tiny, {result['precision']}", ours["tokens_per_cpu_second"], "tokens/s", peer=strongest,
            peers=models[strongest]["tokens_per_cpu_second"], ratio=result["ratio"], floor=1 / ours["mfu"], aim=training.AIM,
        )
    ]  # fmt: skip


def decode_rows(result: dict[str, Any]) -> list[Row]:
    """Of benchmarks.speed.decode, by today's aims."""
    aims = {(f"{ours} / {peer}", batch): aim for ours, peer, batch, aim in decode.AIMS}
    rows = []
    for race in result["races"]:
        decoders, floor = race["decoders"], race["floor"]["step_ms"]
        megabytes = race["floor"]["weight_bytes"] / 1e6
        for name, ratio in race["ratios"].items():
            ours, peer = name.split(" / ")
            step = decoders[ours]["step_ms"]
            rows.append(
                row(
                    f"decode {ours}, {megabytes:.0f} MB, batch {race['batch']}, {race['threads']} thread(s)", step, "ms",
                    peer=peer, peers=decoders[peer]["step_ms"], ratio=ratio["ratio"],
                    floor=None if "weights" in ours else step / floor, aim=aims.get((name, race["batch"]), ratio["aim"]),
                )
            )  # fmt: skip
    return rows


def kernel_rows(result: dict[str, Any]) -> list[Row]:
    """Of benchmarks.speed.kernels."""
    return [
        row(
            each["row"], each["ours_ms"], "ms", peer=each["peer"] or "-", peers=each["peer_ms"], ratio=each["ratio"],
            floor=None if each["floor_ms"] is None else each["ours_ms"] / each["floor_ms"], aim=each["aim"], met=each["met"],
        )
        for each in result["rows"]
    ]  # fmt: skip


def sound_rows(result: dict[str, Any]) -> list[Row]:
    """Of benchmarks.speed.first_sound; the aim is in milliseconds, at most."""
    return [
        row(
            f"first sound, look_ahead {each['look_ahead']}", each["first_of_a_text_ms"], "ms", aim=AIM_MS,
            met=each["first_of_a_text_ms"] <= AIM_MS,
        )
        for each in result["rows"]
    ]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """module, words: the command, to which out=FILE is added; read: its file -> rows."""

    module: str
    words: tuple[str, ...]
    read: Callable[[dict[str, Any]], list[Row]]

    def command(self, out: Path) -> list[str]:
        return ["-m", self.module, *self.words, f"out={out}"]


SMOLLM2 = ("size=smollm2-135m", "batches=1", "threads=1", "rounds=9", "new=48")
SOURCES = {
    "training": Source("benchmarks.speed.training", ("rounds=5",), training_rows),
    "decode": Source("benchmarks.speed.decode", ("threads=1",), decode_rows),
    "decode_smollm2": Source("benchmarks.speed.decode", SMOLLM2, decode_rows),
    "kernels": Source("benchmarks.speed.kernels", (), kernel_rows),
    "first_sound": Source("benchmarks.speed.first_sound", (), sound_rows),
}


def read(name: str, folder: Path) -> list[Row]:
    """The rows of a source with their day and machine. Raises ValueError where the file is damaged."""
    path = folder / f"{name}.json"
    try:
        result = json.loads(path.read_text())
        rows = SOURCES[name].read(result)
        machine = result["machine"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: no result of {SOURCES[name].module} ({error!r}); measure again") from error
    where = {"day": result.get("date", "-"), "processor": machine["processor"], "torch": machine["torch"]}
    return [each | where for each in rows]


def measure(names: tuple[str, ...], folder: Path) -> None:
    """Run the commands one after the other. Raises ValueError for the first that fails."""
    for name in names:
        words = SOURCES[name].command(folder / f"{name}.json")
        print(f"python {' '.join(words)}", file=sys.stderr, flush=True)
        code = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
        if code:
            raise ValueError(f"python {' '.join(words)} failed with exit code {code}; its own lines are above")


def main(arguments: list[str]) -> None:
    """Raises ValueError for an unknown source, one that fails, and where there is no result at all."""
    options = read_options(arguments, OWN)
    names = options["only"] or tuple(SOURCES)
    for name in names:
        require_one_of("only", name, SOURCES)
    folder = Path(options["root"]).resolve() if options["run"] else COMMITTED
    if options["run"]:
        measure(names, folder)
    there = [name for name in names if (folder / f"{name}.json").is_file()]
    if not there:
        raise ValueError(f"{folder} has no results of {', '.join(names)}; run=true measures them")
    print(table([each for name in there for each in read(name, folder)]))
    for name in names:
        if name not in there:
            path = Path(os.path.relpath(folder / f"{name}.json", ROOT))
            print(f"{name}: not measured; python {' '.join(SOURCES[name].command(path))}")


if __name__ == "__main__":
    run_program(main)
