"""Search spaces: option of `train.py` -> Optuna distribution, written in the grammar of Hydra's sweeps.

    optim.lr: tag(log, interval(1e-3, 1e-1))      a number between, on a logarithmic scale
    optim.momentum: interval(0.8, 0.98)           between its bounds; int(interval(1, 8)): a whole number
    schedule.warmup_steps: range(10, 200, 10)     10, 20, ... 190
    datamodule.batch_size: choice(16, 32, 64)     or 16,32,64

conf/search/NAME.yaml holds such lines, a command line adds to them or replaces them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from muomni.cli.help import CONF, choices
from muomni.cli.overrides import parse

Space = dict[str, BaseDistribution]
FORMS = "interval(LOW, HIGH), tag(log, interval(LOW, HIGH)), int(interval(LOW, HIGH)), range(START, STOP, STEP) or choice(A, B)"


def read_search(name: str) -> dict[str, str]:
    """Option -> text of conf/search/NAME.yaml, or of a YAML file. Raises ValueError or FileNotFoundError in one line."""
    own = name.endswith((".yaml", ".yml"))
    path = Path(name).expanduser() if own else CONF / "search" / f"{name}.yaml"
    if not path.is_file():
        hint = "" if own else f"; available: {', '.join(choices('search'))}, or a .yaml file"
        raise FileNotFoundError(f"search={name}: no such search space{hint}")
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"search={name}: {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"search={name}: {path}: a line for each option, OPTION: {FORMS}")
    return {str(key): text for key, text in found.items()}


def split_searched(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Words of a command line -> those with several values (option -> text), and the others."""
    searched, rest = {}, []
    for word in words:
        key, equals, text = word.partition("=")
        override = parse(key, text) if equals and key[:1].isalpha() and not key.startswith("hydra") else None
        if override is not None and override.is_sweep_override():
            searched[key] = text
        else:
            rest.append(word)
    return searched, rest


def space_of(texts: Mapping[str, str]) -> Space:
    """The distributions of a search space. Raises ValueError naming an option whose text is none."""
    return {key: distribution(key, text) for key, text in texts.items()}


def distribution(key: str, text: str) -> BaseDistribution:
    """The distribution that a text in Hydra's grammar stands for."""
    override = parse(key, text)
    value: Any = override.value() if override is not None and override.is_sweep_override() else None
    try:
        if isinstance(value, ChoiceSweep):
            return CategoricalDistribution([_choice(each) for each in value.list])
        if isinstance(value, IntervalSweep):
            return _interval(value)
        if isinstance(value, RangeSweep):
            return _range(value)
    except ValueError as error:
        raise ValueError(f"{key}={text}: {error}") from error
    raise ValueError(f"{key}={text}: no values to search; write {FORMS}")


def _choice(value: Any) -> CategoricalChoiceType:
    """A choice as Optuna keeps it: a number, a truth value or None as it is, all else as the text of an override."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return (
        str(Override._get_value_element_as_str(value)) if not isinstance(value, QuotedString) else value.with_quotes()
    )


def _interval(value: IntervalSweep) -> BaseDistribution:
    log = "log" in value.tags
    low, high = value.start, value.end
    if low is None or high is None:
        raise ValueError("an interval has two bounds")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _range(value: RangeSweep) -> BaseDistribution:
    """The stop is left out, as in Python and in Hydra's own sweeps."""
    start, stop, step = (0 if value.start is None else value.start), value.stop, value.step
    if stop is None or step <= 0 or stop <= start:
        raise ValueError("a range has a start, a larger stop and a positive step")
    if all(isinstance(each, int) for each in (start, stop, step)):
        return IntDistribution(int(start), int(start + (stop - start - 1) // step * step), step=int(step))
    count = int((stop - start) / step - 1e-9)
    return FloatDistribution(float(start), float(start + count * step), step=float(step))


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """A value for each option; those that the trial already has stay as they are."""
    return {key: trial._suggest(key, each) for key, each in space.items()}


def first_values(space: Space) -> dict[str, Any]:
    """One value of each option, to try out whether the options exist."""
    return {
        key: each.choices[0] if isinstance(each, CategoricalDistribution) else each.low  # type: ignore[attr-defined]
        for key, each in space.items()
    }


def as_words(values: Mapping[str, Any]) -> list[str]:
    """Overrides of `train.py`."""
    return [f"{key}={_written(value)}" for key, value in values.items()]


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, float) else str(value)
