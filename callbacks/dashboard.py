"""python -m callbacks.dashboard project=muomni     lays out the panels of a project's dashboard.

    project=NAME    of W&B          entity=NAME    whose; default: yours
    runs=FOLDER     TensorBoard: put the layout into the logs of the runs under it, `tensorboard --logdir FOLDER` then shows it
    out=FILE        layout for TensorBoard's custom scalars, default reports/dashboard.json

Where somebody is logged in to W&B and wandb-workspaces is installed (pip install 'muomni[dashboard]') a workspace of that
project is saved, and its address printed. Otherwise, and with runs=, the layout goes to TensorBoard: as JSON, and into the logs.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

from callbacks.panels import PANELS, custom_scalars
from callbacks.wandb_logger import logged_in
from muomni.checkpoints.atomic_write import write_text

OPTIONS = {"project": "", "entity": "", "runs": "", "out": "reports/dashboard.json"}


def workspace(project: str, entity: str) -> str:
    """Save a workspace of the project with a section a group of panels; its address."""
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces

    def chart(title: str, names: list[str]) -> Any:
        pattern = "|".join(f"({name})" for name in names)
        return reports.LinePlot(title=title, x="trainer/global_step", metric_regex=pattern)

    sections = [
        workspaces.Section(name=name, panels=[chart(*each) for each in charts.items()], is_open=True)
        for name, charts in PANELS.items()
    ]
    made = workspaces.Workspace(name="muomni", entity=entity or default_entity(), project=project, sections=sections)
    return str(made.save().url)


def default_entity() -> str:
    """Of whoever is logged in."""
    import wandb

    return str(wandb.Api().default_entity)


def write_layouts(runs: Path) -> int:
    """Put the layout into the TensorBoard logs under a folder of runs; their number."""
    from torch.utils.tensorboard import SummaryWriter

    folders = sorted({path.parent for path in runs.rglob("events.out.tfevents.*")})
    for folder in folders:
        with SummaryWriter(str(folder), filename_suffix=".layout") as writer:
            writer.add_custom_scalars(custom_scalars())
    return len(folders)


def main(words: list[str]) -> None:
    """Raises ValueError for what is no option, and for runs without logs."""
    options = dict(OPTIONS)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in OPTIONS:
            raise ValueError(f"{word!r} is no option; they are {', '.join(f'{each}=' for each in OPTIONS)}")
        options[name] = value
    if not options["project"] and not options["runs"]:
        raise ValueError("give project=NAME of W&B, or runs=FOLDER for TensorBoard")
    online = options["project"] and logged_in() and importlib.util.find_spec("wandb_workspaces") is not None
    if online:
        print(workspace(options["project"], options["entity"]))
    if options["runs"]:
        runs = Path(options["runs"])
        count = write_layouts(runs)
        if not count:
            raise ValueError(f"runs={runs}: no TensorBoard logs there; train with logger=[tensorboard]")
        print(f"the layout is in {count} logs: tensorboard --logdir {runs}, tab CUSTOM SCALARS")
    if not online:
        out = Path(options["out"])
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, json.dumps(custom_scalars(), indent=2) + "\n")
        why = "nobody is logged in to W&B" if not logged_in() else "wandb-workspaces is not installed"
        print(f"{out}: the layout for TensorBoard's custom scalars ({why})")


def covered(name: str) -> bool:
    """Whether a chart shows a metric."""
    return any(re.fullmatch(each, name) for charts in PANELS.values() for names in charts.values() for each in names)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
