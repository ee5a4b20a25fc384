"""A Hugging Face folder, read as data: config.json and the tensors of one or several model.safetensors.

Nothing of a folder is executed: pickles (`pytorch_model.bin`) and code (`auto_map`) are refused. The tensors are mapped into
memory and read one at a time, so that a folder of several gigabytes costs no memory until it is used. Every error is a
ValueError or FileNotFoundError of one line, which names the file, the key, and the way out.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from muomni.short_repr import shown
from muomni.user_path import user_path

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MOST_JSON = 16 << 20  # bytes: an index of 100,000 tensors
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "pytorch_model.pt", "model.pt")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
#: What is downloaded of a hub's repository: no pickles, no code, no copies in subfolders.
HUB_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt")
#: safetensors' names of the number formats that a model may have.
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MOST_MAPPED = 128 << 20  # bytes that are read before a file is mapped again: pages stay in memory while it is open
LFS_POINTER = b"version https://git-lfs"


class FolderTensors(Mapping[str, Tensor]):
    """Tensors by name, each mapped from its file when it is read. files: name -> its .safetensors.

    A tensor stays valid as long as it is held; what is no longer held leaves the memory after `MOST_MAPPED` bytes.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self._open = {path: _open(path) for path in dict.fromkeys(self.files.values())}
        self._mapped = 0
        for path, handle in self._open.items():
            theirs, ours = set(handle.keys()), {key for key, file in self.files.items() if file == path}
            if ours - theirs:
                raise ValueError(f"{path} lacks {min(ours - theirs)}, which {INDEX} says is in it: download both again")
            if theirs - ours:
                raise ValueError(f"{path} holds {min(theirs - ours)}, which {INDEX} does not name: download both again")

    def __getitem__(self, key: str) -> Tensor:
        path = self.files[key]
        tensor: Tensor = self._open[path].get_tensor(key)
        self._mapped += tensor.nbytes
        if self._mapped > MOST_MAPPED:
            self._mapped, self._open = 0, {each: _open(each) for each in self._open}
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._open[self.files[key]].get_slice(key).get_shape())

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of a tensor, without reading it. Raises ValueError for one that is no floating-point number."""
        found = self._open[self.files[key]].get_slice(key).get_dtype()
        if found not in DTYPES:
            raise ValueError(
                f"{self.files[key]}: {key} is of {found}, not one of {', '.join(DTYPES)}: a quantised model is not read, "
                "name the folder of the original"
            )
        return DTYPES[found]


@dataclass(frozen=True, slots=True)
class HFFolder:
    """config: what config.json holds. tensors: read one by one, when they are used."""

    path: Path
    config: dict[str, Any]
    tensors: FolderTensors

    def check(self, expected: Mapping[str, tuple[int, ...]], *, surplus: Iterable[str] = ()) -> None:
        """Raise ValueError naming the first tensor that is missing, of another shape, no floating-point number, or not
        expected. expected: name -> shape. surplus: regular expressions of names that may be there and are not used."""
        extra = [re.compile(pattern) for pattern in surplus]
        for key, shape in expected.items():
            if key not in self.tensors:
                raise ValueError(
                    f"{self.path}: the tensor {key} is missing, which {CONFIG} asks for: the folder is incomplete, or of "
                    "another model"
                )
            found = self.tensors.shape(key)
            if found != tuple(shape):
                raise ValueError(
                    f"{self.tensors.files[key]}: {key} has shape {found}, {CONFIG} asks for {tuple(shape)}: two models"
                )
            self.tensors.dtype(key)
        for key in self.tensors:
            if key not in expected and not any(pattern.fullmatch(key) for pattern in extra):
                raise ValueError(
                    f"{self.tensors.files[key]}: unexpected tensor {key}: {CONFIG} describes a model without it"
                )


def read_folder(source: str | Path) -> HFFolder:
    """Open a folder, or the repository of a hub where there is a network (`ORG/NAME`), as huggingface_hub keeps it.

    Raises FileNotFoundError or ValueError.
    """
    path = find_folder(source)
    config = read_config(path)
    return HFFolder(path, config, FolderTensors(_weight_files(path)))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder. Raises ValueError where it is none, asks for code, or describes quantised tensors."""
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: no {CONFIG} here: name the folder that save_pretrained or huggingface-cli download wrote"
        )
    config = read_json(path)
    if config.get("auto_map"):
        raise ValueError(
            f"{path}: auto_map asks for code of the folder ({shown(config['auto_map'])}), which is never executed: name a folder "
            "of one of transformers' own architectures"
        )
    if config.get("quantization_config"):
        raise ValueError(f"{path}: quantization_config: a quantised model is not read: name the folder of the original")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size. Raises ValueError naming the file."""
    if path.stat().st_size > MOST_JSON:
        raise ValueError(f"{path}: {path.stat().st_size >> 20} MB, which no such file has: download it again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({shown(error, str)}): download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a JSON {type(content).__name__}, not an object: download it again")
    return content


def find_folder(source: str | Path) -> Path:
    """The folder itself, or where huggingface_hub keeps the repository of this name. Raises FileNotFoundError or ValueError."""
    path = user_path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{path} is a file: name its folder, with {CONFIG} in it")
    if not isinstance(source, str) or not HUB_NAME.fullmatch(source):
        raise FileNotFoundError(f"no such folder: {source} (a repository of the hub is written ORG/NAME)")
    return _download(source)


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(f"no folder {name} here; to download it from the hub:  pip install 'muomni[hf]'") from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES), ignore_patterns=["*/*"]))
    except Exception as error:  # of the hub, its cache, the network: of many classes
        raise FileNotFoundError(
            f"no folder {name} here, and the hub cannot be reached or has no such repository ({shown(error, str, most=160)}): "
            "name a folder on this disk, or see to the network"
        ) from error


def _weight_files(folder: Path) -> dict[str, Path]:
    """Name of each tensor -> its file."""
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return dict.fromkeys(_open(whole).keys(), whole)
    if index.is_file():
        return _shards(index)
    pickles = [name for name in PICKLES if (folder / name).exists()]
    if pickles:
        raise ValueError(
            f"{folder / pickles[0]} is a pickle, which can execute code, and is not read: convert it to {WEIGHTS} "
            "(transformers' save_pretrained does), or name a folder that has one"
        )
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    if shards:
        raise FileNotFoundError(f"{folder}: {shards[0].name} is there, {INDEX} is missing: download it too")
    raise FileNotFoundError(f"{folder}: no {WEIGHTS} and no {INDEX} here: download them too")


def _shards(index: Path) -> dict[str, Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index}: no weight_map from tensors to files: download it again")
    for key, name in names.items():
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise ValueError(f"{index}: {shown(key, str)} is in {shown(name)}, which is no .safetensors of this folder")
    missing = sorted(name for name in set(names.values()) if not (index.parent / name).is_file())
    if missing:
        raise FileNotFoundError(
            f"{index.parent}: {len(missing)} of {len(set(names.values()))} files are missing that {INDEX} names: "
            f"{', '.join(missing[:3])}: download them too"
        )
    return {key: index.parent / name for key, name in names.items()}


def _open(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        with path.open("rb") as file:
            pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
        if pointer:
            raise ValueError(f"{path} is a pointer of git-lfs, not the tensors:  git lfs pull") from error
        raise ValueError(
            f"{path}: cannot be read, damaged or cut off ({shown(error, str, most=120)}): download it again"
        ) from error
