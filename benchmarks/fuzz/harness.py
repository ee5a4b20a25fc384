"""Processes that run inputs one after another, and record the outcome of each."""

import faulthandler
import multiprocessing
import os
import random
import resource
import shutil
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from muomni.cli.errors import USER_ERRORS

GOOD = ("taken", "refused")
BAD = ("traceback", "unclear", "hang", "memory", "crash", "broken")
PATIENCE = 4  # a machine that is busy with other work is no hang
FORK = multiprocessing.get_context("fork")


class BrokenAnswerError(Exception):
    """An answer came out of weights that hold NaN or Inf."""


@dataclass(frozen=True)
class Target:
    """Something that takes input of others.

    make: (random numbers, an empty folder) -> the input. use: tries it; what it raises is judged. share: of all inputs; what
    takes long gets fewer. names: an error must hold the path of the input, where it is one.
    """

    name: str
    make: Callable[[random.Random, Path], Any]
    use: Callable[[Any], object]
    share: float = 1.0
    names: bool = True


@dataclass(frozen=True)
class Limits:
    """Of one input: seconds of a processor (or `PATIENCE` times as many on the clock, for what waits), and bytes of memory over
    what the process had before."""

    seconds: float = 20.0
    memory: int = 1 << 30


@dataclass
class Outcomes:
    """How many inputs of a target ended how, and a line for each of the bad ones."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add(self, target: str, number: int, outcome: str) -> None:
        """Note one: `verdict` or `verdict: what was raised`."""
        verdict, _, said = outcome.partition(": ")
        self.counts[verdict] += 1
        if verdict in BAD:
            self.bad.append(f"{target}:{number} {verdict} {said}".rstrip())


def try_all(target: Target, numbers: Iterable[int], *, seed: int, folder: Path, limits: Limits) -> Outcomes:
    """Try inputs of a target in forks of this process; one that dies or hangs costs its own input alone."""
    waiting, outcomes = list(numbers), Outcomes()
    while waiting:
        done, ended = _one_process(target, waiting, seed, folder, limits, outcomes)
        waiting = waiting[done:]
        if ended and waiting:
            outcomes.add(target.name, waiting[0], ended)
            waiting = waiting[1:]
    return outcomes


def _one_process(
    target: Target, numbers: Sequence[int], seed: int, folder: Path, limits: Limits, outcomes: Outcomes
) -> tuple[int, str]:
    """How many inputs a fork tried, and what ended it before the last of them ("": nothing did)."""
    reader, writer = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_live, args=(target, numbers, seed, folder, limits, writer))
    child.start()
    writer.close()
    assert child.pid is not None
    done, used, since = 0, 0.0, time.monotonic()
    while True:
        if reader.poll(limits.seconds / 4):
            try:
                outcomes.add(target.name, *reader.recv())
            except (EOFError, OSError):
                break
            done, used, since = done + 1, _processor_seconds(child.pid), time.monotonic()
        elif (
            _processor_seconds(child.pid) - used >= limits.seconds
            or time.monotonic() - since >= PATIENCE * limits.seconds
        ):
            child.kill()
            child.join()
            return done, f"hang: over {limits.seconds:g} s"
    child.join()
    if child.exitcode and child.exitcode < 0:
        return done, f"crash: signal {-child.exitcode}"
    return done, f"crash: the process left with {child.exitcode}" if done < len(numbers) else ""


def _processor_seconds(process: int) -> float:
    """What a process has used of a processor so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _live(target: Target, numbers: Sequence[int], seed: int, folder: Path, limits: Limits, writer: Connection) -> None:
    """The fork: never returns."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # decoders written in C print what they think
        os.dup2(nothing, descriptor)
    warnings.simplefilter("ignore")
    faulthandler.disable()  # the parent says what ended this process
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + limits.memory, size + limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for number in numbers:
            try:
                outcome = try_one(target, number, seed=seed, folder=folder)
            except BaseException:  # an input could not be made: a fault of this program
                outcome = f"crash: {_where()}"
            writer.send((number, outcome[:60000]))
    finally:
        os._exit(0)


def make_input(target: Target, number: int, *, seed: int, folder: Path) -> Any:
    """The input of this number, in `folder`, which is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return target.make(random.Random(f"{seed}/{target.name}/{number}"), folder)


def try_one(target: Target, number: int, *, seed: int, folder: Path) -> str:
    """Make an input, try it, and say what became of it."""
    made = make_input(target, number, seed=seed, folder=folder / target.name)
    try:
        target.use(made)
    except MemoryError:
        return "memory: " + _where()
    except BrokenAnswerError as error:
        return f"broken: {error}"
    except USER_ERRORS as error:
        return judge(error, made if target.names else None)
    except Exception:
        return "traceback: " + _where()
    return "taken"


def judge(error: BaseException, made: Any) -> str:
    """Whether a user would know from this text what is wrong with which file."""
    text = str(error).strip()
    made = made[0] if isinstance(made, tuple) else made
    named = not isinstance(made, Path) or str(made) in text
    if "allocate memory" in text or "not enough memory" in text:
        return f"memory: {text[:200]}"
    if named and 8 <= len(text) < 2000 and len(text.splitlines()) == 1:
        return "refused"
    return f"unclear: {type(error).__name__}: {text[:200]}"


def _where() -> str:
    """The last lines of a traceback, in one."""
    lines = traceback.format_exc().strip().splitlines()
    return " | ".join(line.strip() for line in [*lines[-4:-1], lines[-1][:300]])
