"""python -m muomni.report budget=demo out=reports/demo     the report card of the newest finished runs.

root=.          the folder of runs/, as paths.root of the training
page=FILE       the Markdown file, default OUT/report.md
data=world      data that the runs were trained on
"""

import sys

from muomni.cli.key_value import read_options, run_program
from muomni.report.page import write_report
from muomni.user_path import user_path

DEFAULTS = {"budget": "demo", "out": "", "root": ".", "page": "", "data": "world"}


def main(arguments: list[str]) -> None:
    """Write the report, and a summary on standard error. Missed goals are no failure; no run at all is one."""
    options = read_options(arguments, DEFAULTS)
    out = user_path(options["out"] or f"reports/{options['budget']}")
    page, runs = user_path(options["page"] or out / "report.md"), user_path(options["root"]) / "runs"
    given = [f"{key}={value}" for key, value in options.items() if value and key != "root" and value != DEFAULTS[key]]
    command = " ".join(["python -m muomni.report", *given])
    budget, data = options["budget"], options["data"]
    result = write_report(runs=runs, out=out, page=page, budget=budget, data=data, command=command)
    print(f"{page}: {result['reached']} of {result['goals']} goals reached", file=sys.stderr)
    if result["missing"]:
        print(f"missing, no finished run: {', '.join(result['missing'])}", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
