"""python -m muomni.report budget=demo out=reports/demo     the report card of the newest finished runs.

root=.          the folder of runs/, as paths.root of the training
page=FILE       the Markdown file, default OUT/report.md
data=world      data that the runs were trained on
"""

import sys

from muomni.cli.key_value import read_options
from muomni.report.page import write_report
from muomni.user_path import user_path

DEFAULTS = {"budget": "demo", "out": "", "root": ".", "page": "", "data": "world"}


def main(arguments: list[str]) -> int:
    """Writes the report and a summary on standard error. Missed goals are no failure; no run at all is one."""
    try:
        options = read_options(arguments, DEFAULTS)
    except ValueError as error:
        print(f"error: {error}\n\n{__doc__}", file=sys.stderr)
        return 2
    out = user_path(options["out"] or f"reports/{options['budget']}")
    page = user_path(options["page"] or out / "report.md")
    runs = user_path(options["root"]) / "runs"
    given = [f"{key}={value}" for key, value in options.items() if value and key != "root" and value != DEFAULTS[key]]
    command = " ".join(["python -m muomni.report", *given])
    try:
        result = write_report(
            runs=runs, out=out, page=page, budget=options["budget"], data=options["data"], command=command
        )
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{page}: {result['reached']} of {result['goals']} goals reached", file=sys.stderr)
    if result["missing"]:
        print(f"missing, no finished run: {', '.join(result['missing'])}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
