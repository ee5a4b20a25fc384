"""What became of a planted fault, and the report on all of them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from benchmarks.results import write_results


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was planted in which stage, whether it was caught, and what was said (or what went wrong)."""

    stage: str
    fault: str
    caught: bool
    said: str


def report(outcomes: Iterable[Outcome], out: str) -> int:
    """Print each as it comes and write all to `out`. Returns the exit code: 1 if a fault was not caught."""
    done = []
    for outcome in outcomes:
        verdict = "caught" if outcome.caught else "NOT CAUGHT"
        print(f"{outcome.stage:10} {outcome.fault:22} {verdict}  {outcome.said[:160]}", flush=True)
        done.append(outcome)
    caught = sum(outcome.caught for outcome in done)
    print(f"{len(done)} faults planted, {caught} caught by name, {len(done) - caught} not")
    write_results(out, {"planted": len(done), "caught": caught, "outcomes": [asdict(outcome) for outcome in done]})
    return int(caught < len(done))
