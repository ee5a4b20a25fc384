"""Which files of a model are data. All others - pickles, code, what an editor left - neither leave nor come in."""

import re
from collections.abc import Iterable
from pathlib import Path

#: Names and endings of what is read as data: weights, configuration, tokenizers, texts, samples.
DATA = re.compile(
    r"[\w .+-]+\.(safetensors|gguf|json|yaml|model|md|txt|jinja|png|jpg|svg|wav|flac)|LICENSE|LICENCE|NOTICE",
    re.IGNORECASE,
)
PICKLE = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle|h5|msgpack|npy|npz|joblib)", re.IGNORECASE)
CODE = re.compile(r".*\.(py|pyc|so|sh|ipynb|dll|exe)", re.IGNORECASE)
#: What a model cannot be without.
WEIGHTS = re.compile(r"[\w.-]+\.(safetensors|gguf)")


def is_data(name: str) -> bool:
    """Whether a file of a repository, with `/` in it where it is in a folder, is one that travels: directly in the folder, and
    of a known type."""
    return bool(DATA.fullmatch(name)) and not name.startswith(".")


def not_data(names: Iterable[str]) -> str:
    """A few words on pickles and code among names; empty where there are none."""
    names = list(names)
    found = [f"{len(files)} {word} ({files[0]})" for word, files in _sorted(names).items() if files]
    return " and ".join(found)


def _sorted(names: list[str]) -> dict[str, list[str]]:
    pickles, code = ([name for name in names if rule.fullmatch(name)] for rule in (PICKLE, CODE))
    return {
        "pickles" if len(pickles) != 1 else "pickle": pickles,
        "files of code" if len(code) != 1 else "file of code": code,
    }


def data_files(folder: Path) -> list[Path]:
    """The files of a folder that travel, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and is_data(path.name))
