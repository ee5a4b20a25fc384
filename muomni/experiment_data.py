"""Options of an experiment that say where its data is: they apply to every stage that a command line of it trains.

`an4: ${oc.env:MUOMNI_AN4,${paths.data}/an4}`, at the top level of conf/experiment/an4.yaml, is one.
"""

import functools
from collections.abc import Sequence

import yaml

from muomni.program import ROOT

FROM_ENVIRONMENT = "${oc.env:"


def data_options(overrides: Sequence[str]) -> frozenset[str]:
    """Names of the data options of the experiment, or several, that a command line chooses. An unknown experiment has none."""
    chosen = [word.lstrip("+").partition("=")[2] for word in overrides if word.lstrip("+").startswith("experiment=")]
    names = [name.strip(" '\"") for value in chosen for name in value.strip("[]").split(",")]
    return frozenset().union(*(_options_of(name) for name in names))


@functools.cache
def _options_of(experiment: str) -> frozenset[str]:
    file = ROOT / "conf" / "experiment" / f"{experiment}.yaml"
    table = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return frozenset(key for key, value in table.items() if isinstance(value, str) and FROM_ENVIRONMENT in value)
