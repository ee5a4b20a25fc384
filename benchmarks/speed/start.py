"""python -m benchmarks.speed.start ckpt=checkpoints/omni_sft     seconds from the shell to an answer, and to a training step.

Each phase is a process of its own that does all of the phases before it too; processes take turns, and the least of the rounds
counts. Next to the seconds on the clock are those of the processor, which other work on the machine does not lengthen.

    image=FILE      for the question; default: a grey picture
    text=...        the question
    stage=thinker   whose training begins: budget=ci, of data that is made before the first round
    rounds=3
    out=FILE        the numbers as JSON
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.results import table, write_results
from muomni.cli.key_value import read_options, run_program

ROOT = Path(__file__).resolve().parents[2]
OWN: dict[str, Any] = {
    "ckpt": "checkpoints/omni_sft", "image": "", "text": "how many objects are there?", "stage": "thinker", "rounds": 3, "out": ""
}  # fmt: skip
#: Of train.py: printed with the batch of its first step.
FIRST_STEP = b"memory expected"
BASE = "import torch"


def timed(command: list[str], *, until: bytes = b"") -> tuple[float, float]:
    """Seconds on the clock and of the processor of a process; until: it is ended once it prints this. Raises ValueError if it
    fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said, reached = b"", False
    for line in process.stdout:
        said += line
        if until and until in line:
            reached = True
            break
    seconds = time.perf_counter() - start
    if reached:
        process.kill()
    code = process.wait()
    process.stdout.close()
    if not reached and (code or until):
        raise ValueError(f"{' '.join(command)} failed: {said.decode(errors='replace')[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def phases(options: dict[str, Any], folder: Path) -> dict[str, tuple[list[str], bytes]]:
    """Name -> the command, and what it prints when the phase is over."""
    python, image = sys.executable, options["image"] or str(folder / "grey.png")
    question = [f"ckpt={options['ckpt']}", f"image={image}", f"text={options['text']}", "quiet=true"]
    load = f"import infer; from muomni.inference.load import load_model; load_model({options['ckpt']!r}, device='cpu')"
    training = ["budget=ci", "data.preset=ci", f"paths.root={folder}", "resume=never", "callbacks.progress=null"]
    return {
        BASE: ([python, "-c", "import torch"], b""),
        "import infer": ([python, "-c", "import infer"], b""),
        "and load the export": ([python, "-c", load], b""),
        "infer.py image= text=": ([python, "infer.py", *question], b""),
        "import train": ([python, "-c", "import train"], b""),
        f"train.py stage={options['stage']} to its first step": (
            [python, "train.py", f"stage={options['stage']}", *training], FIRST_STEP
        ),
    }  # fmt: skip


def measure(options: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """A row a phase."""
    commands = phases(options, folder)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(options["rounds"] + 1):
        for name, (command, until) in commands.items():
            result = timed(command, until=until)
            if number:  # the first round compiles modules and makes the data
                found[name].append(result)
    clock, busy = ({name: min(each[k] for each in rows) for name, rows in found.items()} for k in (0, 1))
    return [
        {
            "phase": name, "seconds": clock[name], "over torch": clock[name] - clock[BASE], "processor": busy[name],
            "processor over torch": busy[name] - busy[BASE],
        }
        for name in commands
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    """Raises ValueError where a program fails."""
    options = read_options(arguments, OWN)
    if options["rounds"] < 1:
        raise ValueError(f"rounds={options['rounds']}: at least one round is needed")
    options["ckpt"] = str(Path(options["ckpt"]).resolve())
    with tempfile.TemporaryDirectory(prefix="muomni-start-") as name:
        Image.new("RGB", (64, 64), (120, 120, 120)).save(Path(name) / "grey.png")
        rows = measure(options, Path(name))
    print(table(rows))
    write_results(options["out"], {"phases": rows})


if __name__ == "__main__":
    run_program(main)
