"""python -m benchmarks.serving.schema     random requests from the server's own OpenAPI schema, by schemathesis.

cases=10000     requests at least
seed=0          of the first round; a round repeats no request of another one
ckpt=DIR        an export to serve, default checkpoints/omni_sft
seconds=40      that a request may take
out=FILE        the numbers as JSON, default reports/schema.json

Exit code 1 for an answer of 5xx, a status, content type or body that the schema does not name, a body accepted although the
schema forbids it, and for a request that nobody answers. That a body is refused although the schema permits it is no finding:
schemas say nothing of, e.g., base64 that is no image. Needs schemathesis (pip install schemathesis).
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from benchmarks.serving.process import ServerProcess
from muomni.cli.key_value import read_options, run_program

OWN = {
    "cases": 10_000, "seed": 0,  "ckpt": "checkpoints/omni_sft", "seconds": 40.0, "out": "reports/schema.json",
}  # fmt: skip
SETTINGS = ('names=["*"]', "max_new_tokens=16", "request_seconds=20")
EXAMPLES = 100  # of a route in a round
OPTIONS = (
    "--checks=all", "--exclude-checks=positive_data_acceptance", "--suppress-health-check=all", "--continue-on-failure",
    "--no-shrink", "--no-color", "--warnings=off",
)  # fmt: skip


def one_round(url: str, *, seed: int, examples: int, phases: str, seconds: float) -> dict[str, Any]:
    """Schemathesis' report of one run. Raises ValueError if it made none."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *OPTIONS, f"--phases={phases}",
            f"--max-examples={examples}", f"--seed={seed}", f"--request-timeout={seconds}", f"--report-json-path={report}",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if not report.is_file():
            raise ValueError(f"schemathesis: {(done.stderr or done.stdout).strip()[-400:]}")
        found: dict[str, Any] = json.loads(report.read_text())
        return found


def check(url: str, *, cases: int, seed: int, seconds: float) -> tuple[int, list[str]]:
    """(requests sent, findings). The first round also tries the borders of every field, one by one."""
    sent, found, phases = 0, dict[str, None](), "coverage,fuzzing,stateful"
    while sent < cases:
        report = one_round(url, seed=seed, examples=EXAMPLES, phases=phases, seconds=seconds)
        counts = report["test_cases"]
        sent += counts["generated"]
        found |= dict.fromkeys(json.dumps(each) for each in [*report["failures"], *report["errors"]])
        print(f"seed {seed}: {counts['generated']} requests, {counts['unique_failures']} findings", file=sys.stderr)
        if counts["generated"] == 0:
            raise ValueError(f"schemathesis sent nothing to {url}")
        seed, phases = seed + 1, "fuzzing,stateful"
    return sent, list(found)


def main(arguments: list[str]) -> int:
    options = read_options(arguments, OWN)
    if importlib.util.find_spec("schemathesis") is None:
        raise ValueError("these requests are made by schemathesis: pip install schemathesis")
    with ServerProcess(options["ckpt"], *SETTINGS) as server:
        before = round(server.process.memory())
        sent, found = check(server.url, cases=options["cases"], seed=options["seed"], seconds=options["seconds"])
        after = round(server.process.memory())
    print("\n".join(found))
    print(f"{sent} requests, {len(found)} findings; memory of the server {before} -> {after} MB")
    memory = {"before": before, "after": after}
    write_results(
        options["out"],
        {
            "seed": options["seed"],
            "requests": sent,
            "findings": [json.loads(each) for each in found],
            "megabytes": memory,
        },
    )
    return int(bool(found))


if __name__ == "__main__":
    run_program(main)
