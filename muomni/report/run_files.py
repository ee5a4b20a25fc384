"""Reads the files of a run folder. One that is damaged is a ValueError of one line that names it, and the line in it."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from muomni import aliases
from muomni.short_repr import shown

Row = dict[str, Any]
Curve = tuple[list[int], list[float]]
#: Groups of a configuration, and sections of run.json, that are read by their keys.
GROUPS, SECTIONS = ("stage", "budget", "data", "paths"), ("seconds", "machine")


def read_mapping(path: Path) -> Row:
    """A JSON object."""
    return _mapping(path, _parsed(path, json.loads, "JSON"), "a JSON object")


def read_yaml(path: Path) -> Row:
    """A YAML mapping, which may be empty."""
    found = _parsed(path, yaml.safe_load, "YAML")
    return {} if found is None else _mapping(path, found, "a YAML mapping")


def read_metrics(path: Path) -> dict[str, float]:
    """metrics.json by today's names."""
    found = {}
    for name, value in read_mapping(path).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{path}: {name} is {shown(value)}, not a number")
        found[aliases.metric(name)] = value
    return found


def read_options(path: Path) -> Row:
    """A configuration by today's names, interpolations unresolved; empty where there is no file."""
    if not path.is_file():
        return {}
    found: Row = aliases.config(read_yaml(path))
    return _with_mappings(path, found, GROUPS)


def read_note(path: Path) -> Row:
    """run.json; empty where there is none."""
    return _with_mappings(path, read_mapping(path), SECTIONS) if path.is_file() else {}


def read_words(path: Path) -> list[str]:
    """The overrides of a job; empty where there is no file."""
    found = (_parsed(path, yaml.safe_load, "YAML") if path.is_file() else None) or []
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"{path}: not a list of options")
    return found


def read_rows(path: Path) -> list[Row]:
    """A JSON object a line; empty where there is no file."""
    lines = _text(path).splitlines() if path.is_file() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error})") from error
        rows.append(_mapping(Path(f"{path}:{number}"), row, "a JSON object"))
    return rows


def read_curves(path: Path) -> dict[str, Curve]:
    """Columns of a metrics.csv as curves over the step, without empty cells; none where there is no file.

    A last line without its end is left out: a training is about to write it, or was killed as it did.
    """
    curves: dict[str, Curve] = {}
    if not path.is_file():
        return curves
    text = _text(path)
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    for row in rows:
        if not row.get("step"):
            continue
        step = int(_number(row["step"], "step", path, rows.line_num))
        for name, value in row.items():
            if value and name not in ("step", "epoch"):
                measured = _number(value, name, path, rows.line_num)
                steps, values = curves.setdefault(aliases.metric(name), ([], []))
                steps.append(step)
                values.append(measured)
    return curves


def _number(value: object, name: str | None, path: Path, line: int) -> float:
    if name is None:  # cells beyond the last column
        raise ValueError(f"{path}:{line}: more cells than columns: remove the line")
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{path}:{line}: {name} is {shown(value)}, not a number: remove the line") from None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text ({error})") from error


def _parsed(path: Path, parse: Callable[[str], Any], language: str) -> Any:
    try:
        return parse(_text(path))
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not {language}: {error}") from error


def _with_mappings(path: Path, document: Row, keys: Sequence[str]) -> Row:
    for key in keys:
        if not isinstance(document.get(key, {}), dict):
            raise ValueError(f"{path}: {key} is {shown(document[key])}, where options belong: not the file of a run")
    return document


def _mapping(path: Path, document: Any, what: str) -> Row:
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not {what}")
    return document
