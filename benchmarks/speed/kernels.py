"""python -m benchmarks.speed.kernels     spectra, codes, CTC, speech and images, each next to a library that does the same.

    rows=a,b        only these of: mel, griffin_lim, resample, rvq_encode, rvq_decode, ctc_loss, ctc_step, ctc_beams,
                    talker_frame, vit, contrastive_step
    threads=1  rounds=15  size=tiny         compile=true    of training steps, and of their peers'
    clock=wall|processor    the latter where others use the machine
    out=FILE        the numbers as JSON

Ours and its peers take turns in one process, on the same inputs and, where they are the same network, the same weights; their
results are compared ("same"). Ratios are medians of the rounds, next to them the quartiles; the peer that is named is the fastest
of those that are there. The floor is what the matrix products would take at the rate of a large one measured in the same run, or,
where little is computed, reading and writing alone. Aims: benchmarks/speed/kernel_rows/. Optional peers: pip install
vector-quantize-pytorch flashlight-text transformers.
"""

import functools
import math
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.results import table, write_results
from benchmarks.speed.decoders import CLOCKS
from benchmarks.speed.kernel_rows import codes, images, sound, speech_recognition, talker
from benchmarks.speed.kernel_rows.contest import Call, Contest
from benchmarks.speed.steps import best_seconds, gemm_rate
from muomni.cli.key_value import read_options, run_program
from muomni.inference.validation import require_one_of
from muomni.run.hardware import describe_machine

OWN = {"rows": (), "threads": 1, "rounds": 15, "size": "tiny", "compile": True, "clock": "wall", "out": ""}
#: Row -> a function of the size that prepares it.
ROWS: dict[str, Callable[..., Contest]] = {
    "mel": sound.mel,
    "griffin_lim": sound.griffin_lim,
    "resample": sound.resampling,
    "rvq_encode": codes.rvq_encode,
    "rvq_decode": codes.rvq_decode,
    "ctc_loss": speech_recognition.loss_row,
    "ctc_step": speech_recognition.step_row,
    "ctc_beams": speech_recognition.beam_row,
    "talker_frame": talker.frame,
    "vit": images.vit,
    "contrastive_step": images.contrastive_step,
}
STEPS = ("ctc_step", "contrastive_step")
OURS = "muomni"
SHORTEST = 0.03  # seconds that are timed at once
Row = dict[str, Any]


def quartiles(values: list[float]) -> list[float]:
    """The first and the third."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return [low, high]


def take_turns(calls: dict[str, Call], *, rounds: int, clock: str, units: int) -> dict[str, list[float]]:
    """Seconds of a unit by name, one a round; whoever begins changes from round to round."""
    now, repeats = CLOCKS[clock], {}
    for name, call in calls.items():
        start = now()
        call()
        repeats[name] = max(1, math.ceil(SHORTEST / max(now() - start, 1e-6)))
    names, seconds = list(calls), {name: list[float]() for name in calls}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            call, start = calls[name], now()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((now() - start) / repeats[name] / units)
    return seconds


def floor_seconds(contest: Contest, *, clock: str) -> float | None:
    """The least time of a unit: of a call's matrix products, or of moving what must be moved."""
    if contest.flops:
        rate = gemm_rate(seconds=0.5, autocast=contest.autocast, clock=CLOCKS[clock])
        return contest.flops / rate / 1e9 / contest.units
    if contest.read:
        return best_seconds("numbers.sum()", limit=0.5, clock=CLOCKS[clock], numbers=torch.ones(contest.read // 4))
    return None


def race(name: str, contest: Contest, *, rounds: int, clock: str) -> Row:
    """Time a contest; its results are compared first."""
    calls: dict[str, Call] = {OURS: contest.ours} | dict(contest.peers)
    results = {each: call() for each, call in calls.items()}
    difference = None
    if contest.difference is not None and contest.peers:
        difference = max(contest.difference(results[OURS], results[peer]) for peer in contest.peers)
    seconds = take_turns(calls, rounds=rounds, clock=clock, units=contest.units)
    medians = {each: statistics.median(values) for each, values in seconds.items()}
    floor = floor_seconds(contest, clock=clock)
    row: Row = {
        "row": name, "case": contest.case, "ours_ms": 1000 * medians[OURS],
        "ours_quartiles_ms": [1000 * each for each in quartiles(seconds[OURS])],
        "peer": None, "peer_ms": None, "ratio": None, "ratio_quartiles": None,
        "floor_ms": None if floor is None else 1000 * floor, "aim": contest.aim, "met": None,
        "difference": difference, "same": None if difference is None else difference <= contest.tolerance,
        "peers_ms": {peer: 1000 * medians[peer] for peer in contest.peers}, "absent": dict(contest.absent),
    }  # fmt: skip
    if contest.peers:
        strongest = min(contest.peers, key=medians.__getitem__)
        ratios = [theirs / ours for theirs, ours in zip(seconds[strongest], seconds[OURS], strict=True)]
        row |= {
            "peer": strongest, "peer_ms": 1000 * medians[strongest], "ratio": statistics.median(ratios),
            "ratio_quartiles": quartiles(ratios),
        }  # fmt: skip
        row["met"] = row["ratio"] >= contest.aim and row["same"] is not False
    return row


def show(rows: list[Row]) -> str:
    """The table, and a line for each peer that is not there."""
    lines = []
    for row in rows:
        low, high = row["ratio_quartiles"] or (None, None)
        floor, met, same = row["floor_ms"], row["met"], row["same"]
        lines.append({
            "row": row["row"], "ours ms": row["ours_ms"], "peer": row["peer"] or "-", "peer ms": row["peer_ms"],
            "ratio": row["ratio"], "25 %": low, "75 %": high, "floor ms": floor,
            "x floor": None if floor is None else row["ours_ms"] / floor, "aim": row["aim"],
            "met": "-" if met is None else "yes" if met else "no",
            "same": "-" if same is None else "yes" if same else f"no: {row['difference']:.2g}",
        })  # fmt: skip
    cases = [f"{row['row']:18}{row['case']}" for row in rows]
    absent = [f"{row['row']:18}without {peer}, {why}" for row in rows for peer, why in row["absent"].items()]
    return "\n".join([table(lines), "", *cases, *absent])


def main(arguments: list[str]) -> None:
    """Raises ValueError for an unknown row."""
    options = read_options(arguments, OWN)
    require_one_of("clock", options["clock"], CLOCKS)
    if options["rounds"] < 1:
        raise ValueError(f"rounds={options['rounds']}: at least one round is needed")
    names = options["rows"] or tuple(ROWS)
    for name in names:
        require_one_of("rows", name, ROWS)
    torch.set_num_threads(options["threads"])
    if options["threads"] == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.filterwarnings("ignore")
    rows = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        prepare = functools.partial(ROWS[name], compiled=options["compile"]) if name in STEPS else ROWS[name]
        rows.append(race(name, prepare(options["size"]), rounds=options["rounds"], clock=options["clock"]))
    print(f"{describe_machine()}, {options['clock']} time\n{show(rows)}")
    write_results(options["out"], {"options": options, "rows": rows})


if __name__ == "__main__":
    run_program(main)
