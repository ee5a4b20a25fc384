"""Arguments of a command line -> overrides in Hydra's grammar.

Hydra's grammar allows no é, no second = and no brackets in an unquoted value, and reads a comma as a sweep. Values that it cannot
parse are quoted; file names are always taken verbatim.
"""

import re
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from muomni.cli.help import CONF
from muomni.experiment_data import all_data_options
from muomni.program import TRAIN
from muomni.user_path import find

#: Options whose value is the name of a file or folder, as is that of an experiment's data options.
FILES = re.compile(
    r"(data\.(train|val|test(\.\w+)?|replay|root)|ckpt|resume|spike|judge|datamodule\.tokenizer|paths\.\w+|\w+_encoder\.path)$"
)
#: Of the group image_encoder, which stands for `backbone.vision`.
IMAGE_ENCODERS = tuple(path.stem for path in sorted((CONF / "image_encoder").glob("*.yaml")))
#: Who judges speech: anything else that judge= names is the folder of a recognizer.
JUDGES = re.compile(r"own$|whisper(:|$)")
#: Mappings with user-defined names: a given mapping replaces the default one, or is merged into it.
REPLACED = ("data.test",)
JOINED = ("datamodule.shares", "datamodule.curriculum", "datamodule.replay_kinds")


def readable(word: str, *, multirun: bool) -> list[str]:
    """The overrides of a word `KEY=VALUE`. Raises ValueError if it cannot be parsed."""
    key, equals, value = word.partition("=")
    if not equals or word.startswith(("-", "~")) or key.startswith("hydra"):
        return [word]
    if key in ("backbone.vision", "backbone/vision") and value in IMAGE_ENCODERS:
        return [f"image_encoder={value}"]
    if key.startswith("backbone/"):
        return [_of_another_size(key, value)]
    if key == "judge" and all(JUDGES.match(each) for each in value.split(",")):
        return [f"whisper={','.join(map(_whisper, value.split(',')))}"]
    bare = key.lstrip("+")
    mapping = value.lstrip().startswith(("{", "["))
    if _names_a_file(bare) and not mapping and not multirun:
        value = value if value in ("", "null", "auto", "never") or _quoted(value) else quote(find(value))
    value = _as_read(key, value, multirun=multirun, mapping=mapping)
    if key == bare and value.startswith("{") and bare in REPLACED:
        return [f"{key}=null", f"++{key}={value}"]
    if key == bare and (bare.rpartition(".")[0] in REPLACED + JOINED or (bare in JOINED and value.startswith("{"))):
        return [f"++{key}={value}"]
    return [f"{key}={value}"]


def _whisper(judge: str) -> str:
    """What `whisper` is for judge=own | whisper | whisper:MODEL."""
    name, _, model = judge.partition(":")
    return "null" if name == "own" else quote(find(model)) if model else "auto"


def _names_a_file(key: str) -> bool:
    return FILES.fullmatch(key) is not None or any(key in options for options in all_data_options().values())


def _of_another_size(key: str, value: str) -> str:
    """`backbone/MODEL=SIZE`, one model's numbers of another size, as an override of its options; `SIZE,SIZE` is a sweep."""
    model, numbers = key.removeprefix("backbone/"), []
    sizes = {path.stem: yaml.safe_load(path.read_text())["backbone"] for path in sorted((CONF / "size").glob("*.yaml"))}
    for size in value.split(","):
        if model not in sizes.get(size, {}):
            models = ", ".join(sizes["nano"])
            raise ValueError(
                f"{key}={value}: backbone/MODEL=SIZE, with a model of {models} and a size of {', '.join(sizes)}"
            )
        numbers.append(_written(sizes[size][model]))
    return f"++backbone.{model}={','.join(numbers)}"


def quote(text: str) -> str:
    """A text in Hydra's quotes."""
    inside = re.sub(r'(\\*)"', r'\1\1\\"', text)
    ending = len(inside) - len(inside.rstrip("\\"))
    return f'"{inside}{chr(92) * ending}"'


def _quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _as_read(key: str, value: str, *, multirun: bool, mapping: bool) -> str:
    """The value, quoted if Hydra cannot parse it."""
    parsed = parse(key, value)
    if parsed is not None and (multirun or not parsed.is_sweep_override()):
        return value
    if parsed is not None:
        raise ValueError(
            f"{key}={value}: several values are a list of trainings, which -m begins ({TRAIN} -m ...); one text "
            f"with a comma needs quotes: {key}='\"{value}\"'"
        )
    whole = parsed is None and _names_a_file(key.lstrip("+")) and value.rstrip()[-1:] not in "]}"
    if mapping and not whole:
        loose = re.sub(r"([{,]\s*[\w-]+):(?=\S)", r"\1: ", value)
        try:
            return _written(yaml.safe_load(loose))
        except (yaml.YAMLError, TypeError):
            raise ValueError(f"{key}={value}: a list is [A, B], a mapping {{NAME: VALUE, ...}}, with quotes around the whole "
                             "word for the shell") from None  # fmt: skip
    if multirun:
        return ",".join(each if parse(key, each) else quote(each) for each in value.split(","))
    return quote(value)


def parse(key: str, value: str) -> Override | None:
    """The override as Hydra reads it; None if it cannot."""
    try:
        return OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        return None


def _written(value: Any) -> str:
    """A value in Hydra's grammar. Raises TypeError for values outside of it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict) and all(isinstance(name, str) and re.fullmatch(r"[\w-]+", name) for name in value):
        return f"{{{','.join(f'{name}:{_written(each)}' for name, each in value.items())}}}"
    raise TypeError(value)
