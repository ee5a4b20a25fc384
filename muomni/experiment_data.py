"""Options of an experiment that say where its data is: they apply to every stage that a command line of it trains.

`an4: ${oc.env:MUOMNI_AN4,${paths.data}/an4}`, at the top level of conf/experiment/an4.yaml, is one.
"""

import functools
import re
from collections.abc import Sequence

from muomni.program import ROOT

OPTION = re.compile(r"^(\w+): *\$\{oc\.env:", re.MULTILINE)


def data_options(overrides: Sequence[str]) -> frozenset[str]:
    """Names of the data options of the experiment, or several, that a command line chooses. An unknown experiment has none."""
    chosen = [word.lstrip("+").partition("=")[2] for word in overrides if word.lstrip("+").startswith("experiment=")]
    names = {name.strip(" '\"") for value in chosen for name in value.strip("[]").split(",")}
    return frozenset().union(*(options for name, options in all_data_options().items() if name in names))


@functools.cache
def all_data_options() -> dict[str, frozenset[str]]:
    """Experiment -> names of its data options."""
    files = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    return {file.stem: frozenset(OPTION.findall(file.read_text(encoding="utf-8"))) for file in files}
