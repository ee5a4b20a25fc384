"""python -m muomni.report budget=demo out=reports/demo     the report card of the newest finished runs.
python -m muomni.report seeds=0,1,2 budget=demo          every goal over trainings of several seeds: seeds.md, seeds.json
python -m muomni.report sweep FOLDER                      the jobs of a sweep: sweep.html, sweep.md
python -m muomni.report compare RUN RUN ..                runs side by side: compare.html, compare.md
python -m muomni.report listen RUN ..                     what speech sounds like, by version of each sentence: listen.html
python -m muomni.report leaderboard                       docs/leaderboard.md from the records (docs/leaderboard.yaml)

of the report card:
root=.          the folder of runs/, as paths.root of the training
page=FILE       the Markdown file, default OUT/report.md
data=world      data that the runs were trained on
of seeds (budget, out and data as above):
seeds=0,1,2     the seeds, two or more, trained by  train.py seed=N paths.root=seeds/NAME  or  train.py -m seed=0,1,2
root=.          folders with runs/ or seeds/NAME/runs, separated by commas
of a sweep:
out=FOLDER      default: the sweep's
metrics=A,B     further metrics of its jobs, a column each: test/cer, or with the stage: talker/test/cer
of a comparison:
out=FOLDER      default: reports/compare
of the page to listen to (of the report card's runs it is made, too):
out=FOLDER      default: reports/listen
of the leaderboard:
add=TRACK RUN RUN RUN     a new record: the runs of three seeds, or result files of three benchmarks
commit=HASH               that they were made with, where they do not note it; default: the checkout's
"""

import shlex
import sys
from pathlib import Path

from muomni.cli.key_value import read_options, run_program, split_options
from muomni.report.compare import write_comparison
from muomni.report.leaderboard import add_record, write_leaderboard
from muomni.report.page import write_report
from muomni.report.runs import find_runs
from muomni.report.seeds_page import read_seeds, write_seeds
from muomni.report.sweep import read_sweep, write_sweep
from muomni.user_path import user_path

DEFAULTS = {"budget": "demo", "out": "", "root": ".", "page": "", "data": "world"}


def main(arguments: list[str]) -> None:
    """Write what the first word names, by default the report card."""
    pages = {"sweep": sweep, "compare": compare, "listen": listen, "leaderboard": leaderboard}
    name = arguments[0] if arguments else ""
    if name in pages:
        pages[name](arguments[1:], shlex.join(["python", "-m", "muomni.report", *arguments]))
    elif any(word.startswith("seeds=") for word in arguments):
        seeds(arguments)
    elif name and "=" not in name:
        raise ValueError(f"unknown page {name!r}; available: {', '.join(pages)}, or KEY=VALUE for the report card")
    else:
        report_card(arguments)


def report_card(arguments: list[str]) -> None:
    """Write the report, and a summary on standard error. Missed goals are no failure; no run at all is one."""
    options = read_options(arguments, DEFAULTS)
    out = user_path(options["out"] or f"reports/{options['budget']}")
    page, runs = user_path(options["page"] or out / "report.md"), user_path(options["root"]) / "runs"
    given = [f"{key}={value}" for key, value in options.items() if value and key != "root" and value != DEFAULTS[key]]
    command = " ".join(["python -m muomni.report", *given])
    budget, data = options["budget"], options["data"]
    for option, folder in (("out", out), ("page", page.parent)):
        check_writable(option, folder)
    result = write_report(runs=runs, out=out, page=page, budget=budget, data=data, command=command)
    print(f"{page}: {result['reached']} of {result['goals']} goals reached", file=sys.stderr)
    if result["missing"]:
        print(f"missing, no finished run: {', '.join(result['missing'])}", file=sys.stderr)


def seeds(words: list[str]) -> None:
    """The page of several seeds. A stage that lacks a run of a seed is no failure; a seed without any is one."""
    options = read_options(words, {"seeds": "", "budget": "demo", "out": "", "root": (".",), "data": "world"})
    out = user_path(options["out"] or f"reports/{options['budget']}")
    wanted, roots = read_seeds(options["seeds"]), [user_path(root) for root in options["root"]]
    check_writable("out", out)
    command = shlex.join(["python", "-m", "muomni.report", *words])
    page, lacking = write_seeds(roots, wanted, out, budget=options["budget"], data=options["data"], command=command)
    print("\n".join([str(page), *lacking]), file=sys.stderr)


def sweep(words: list[str], command: str) -> None:
    """The page of one sweep, in its folder."""
    options, folders = _with_folders(words, {"out": "", "metrics": ""})
    if len(folders) != 1:
        raise ValueError("sweep: one folder of a sweep is needed")
    folder = user_path(folders[0])
    metrics = [name for name in options["metrics"].split(",") if name]
    found, out = read_sweep(folder, metrics=metrics), user_path(options["out"] or folder)
    check_writable("out", out)
    print(write_sweep(found, out, command=command), file=sys.stderr)


def compare(words: list[str], command: str) -> None:
    """The page of several runs."""
    options, folders = _with_folders(words, {"out": "reports/compare"})
    if not folders:
        raise ValueError("compare: the folders of two runs or more are needed")
    runs, out = find_runs(folders), user_path(options["out"])
    check_writable("out", out)
    print(write_comparison(runs, out, command=command), file=sys.stderr)


def listen(words: list[str], command: str) -> None:
    """The page of the sounds of runs."""
    from muomni.report.listen import write_listening  # reads recordings: torch, which no other page needs

    options, folders = _with_folders(words, {"out": "reports/listen"})
    if not folders:
        raise ValueError("listen: the folder of a run of stage=talker, codec, vocoder or omni_sft is needed")
    out = user_path(options["out"])
    check_writable("out", out)
    runs = [run.read for run in find_runs(folders)]
    print(write_listening(runs, out / "listen.html", command=command), file=sys.stderr)


def leaderboard(words: list[str], command: str) -> None:
    """The page of the records, after adding one if requested."""
    options, names = _with_folders(words, {"add": "", "commit": "", "records": "docs/leaderboard.yaml"})
    records = user_path(options["records"])
    if names and not options["add"]:
        raise ValueError(f"{names[0]}: which track? add=TRACK")
    if options["add"]:
        sources = [Path(user_path(name)) for name in names]
        print(add_record(records, options["add"], sources, commit=options["commit"]), file=sys.stderr)
    print(write_leaderboard(records), file=sys.stderr)


def check_writable(option: str, folder: Path) -> None:
    """Raise ValueError where a page cannot be written; the folder is made."""
    probe = folder / ".report.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): give another {option}=") from None


def _with_folders(words: list[str], defaults: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Options, and the words that are none: names of folders. Raises ValueError for an unknown option."""
    options, rest = split_options(words, defaults)
    for word in rest:
        if "=" in word and not user_path(word).exists():
            raise ValueError(f"unknown option {word.partition('=')[0]!r}; available: {', '.join(defaults)}")
    return options, rest


if __name__ == "__main__":
    run_program(main)
