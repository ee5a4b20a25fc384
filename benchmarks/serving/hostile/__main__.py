"""python -m benchmarks.serving.hostile     requests made to break the server: none may crash or hang it, or read a file.

requests=2000   how many
seed=0          the same seed makes the same requests
only=           kinds of requests, by commas; default: all
ckpt=DIR        an export to serve, default checkpoints/omni_sft
clients=8       at once
patience=1      times as long as usual may an answer take: more on a busy machine
out=FILE        the numbers as JSON, default reports/hostile.json

Bombs and forged headers in images and recordings, nesting, numbers, wrong UTF-8, damaged HTTP, forms and WebSocket frames, slow
and half-closed connections, paths and addresses in all fields. Exit code 1 for a request that is neither answered nor closed in
time, an answer of 5xx or not in OpenAI's form, an error that does not name the field, and a request that was taken and should not
have been.
"""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.results import write_results
from benchmarks.serving.hostile import bodies, frames, media, multipart, wire
from benchmarks.serving.hostile.fire import fire
from benchmarks.serving.hostile.shot import CHAT, Maker, post, valid
from benchmarks.serving.process import ServerProcess
from muomni.cli.key_value import read_options, run_program

OWN: dict[str, Any] = {
    "requests": 2000, "seed": 0, "only": (),  "ckpt": "checkpoints/omni_sft", "clients": 8, "patience": 1.0,
    "out": "reports/hostile.json",
}  # fmt: skip
SETTINGS = (
    'names=["*"]',
    "max_new_tokens=16",
    "request_seconds=15",
    "body_seconds=4",
    "max_sessions=64",
    "max_audio_seconds=60",
)
MAKERS: dict[str, Maker] = {
    maker.__name__: maker for module in (bodies, media, multipart, wire, frames) for maker in module.MAKERS
}


def run(
    url: str, *, requests: int, seed: int, clients: int, patience: float = 1.0, kinds: Iterable[str] = MAKERS
) -> tuple[dict[str, Counter[str]], list[str]]:
    """(answers of each kind, findings). The kinds take turns."""
    names = list(kinds)
    if unknown := [name for name in names if name not in MAKERS]:
        raise ValueError(f"only={unknown[0]}: available are {', '.join(MAKERS)}")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}

    def one(number: int) -> tuple[str, str, str | None]:
        name = names[number % len(names)]
        word, wrong = fire(url, MAKERS[name](random.Random(f"{seed} {number}")), patience=patience)
        return name, word, wrong and f"{name}, request {number}: {word}, {wrong}"

    found = []
    with ThreadPoolExecutor(clients) as pool:
        for name, word, wrong in pool.map(one, range(requests)):
            counts[name][word] += 1
            if wrong:
                found.append(wrong)
                print(wrong, file=sys.stderr)
    word, wrong = fire(url, post(CHAT, valid(CHAT), passes=True), patience=patience)
    if word != "200":
        found.append(f"after all of them: {word}, {wrong}")
    return counts, found


def main(arguments: list[str]) -> int:
    options = read_options(arguments, OWN)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    found: list[str] = []
    with ServerProcess(options["ckpt"], *SETTINGS) as server:
        how = {"clients": options["clients"], "patience": options["patience"], "kinds": options["only"] or MAKERS}
        run(server.url, requests=len(MAKERS), seed=-1, **how)  # what is loaded at first use is no growth
        megabytes = [round(server.process.memory())]
        for quarter in range(4):
            count = (options["requests"] + quarter) // 4
            answers, wrong = run(server.url, requests=count, seed=4 * options["seed"] + quarter, **how)
            megabytes.append(round(server.process.memory()))
            found += wrong
            for name, each in answers.items():
                counts[name] += each
        alive = server.popen.poll() is None
    if not alive:
        found.append("the server has ended")
    for name, each in counts.items():
        print(f"{name:<18} {', '.join(f'{word}: {count}' for word, count in each.most_common())}")
    print(
        f"{options['requests']} requests, {len(found)} findings; memory of the server before, after each quarter: {megabytes} MB"
    )
    results = {"options": options, "answers": counts, "findings": found, "megabytes": megabytes}
    write_results(options["out"], results)
    return int(bool(found))


if __name__ == "__main__":
    run_program(main)
