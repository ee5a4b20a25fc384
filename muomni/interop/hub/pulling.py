"""A repository of the hub -> a folder, data alone.

The names of its files are looked at first: nothing of a model that needs pickles or code is downloaded. Files go through the
hub's cache, which resumes an interrupted download; the folder is there whole or not at all.
"""

import os
import shutil
from pathlib import Path, PurePosixPath

from muomni.checkpoints.atomic_write import atomic_folder
from muomni.interop.hub.connection import hub_api, one_line
from muomni.interop.hub.files import WEIGHTS, is_data, not_data
from muomni.interop.hub.pushing import check_code


def pull(repo: str, out: Path, *, revision: str) -> list[str]:
    """Download a repository into a new folder; returns notes. Raises ValueError or FileNotFoundError of one line."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} exists already: name a new folder")
    if "/" not in repo:
        raise ValueError(f"{repo}: a repository is USER/NAME")
    with one_line(repo, "pulled from"):
        api = hub_api()
        found = api.repo_info(repo, revision=revision)
        names = [each.rfilename for each in found.siblings or ()]
        wanted = wanted_files(names, repo)
        cached = [Path(api.hf_hub_download(repo, name, revision=found.sha)) for name in wanted]
    config = next((path for path in cached if path.name == "config.json"), None)
    try:
        if config is not None:
            check_code(config)
    except ValueError as error:
        raise ValueError(f"{repo}: {error}; nothing is pulled") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out, own=()) as temporary:
        for name, path in zip(wanted, cached, strict=True):
            shutil.copyfile(os.path.realpath(path), temporary / name)
    rest = not_data(names)
    return [
        *([f"left on the hub: {rest}"] if rest else []),
        f"pulled: {len(wanted)} files of {repo} at {found.sha[:12]} to {out}",
    ]


def wanted_files(names: list[str], repo: str) -> list[str]:
    """The files of a repository that are pulled. Raises ValueError where none of them holds weights."""
    wanted = sorted(name for name in names if is_data(name) and PurePosixPath(name).name == name)
    if any(WEIGHTS.fullmatch(name) for name in wanted):
        return wanted
    rest = not_data(names)
    reason = f"it holds {rest}, which can execute code, and no .safetensors" if rest else "it holds no .safetensors"
    raise ValueError(f"{repo}: {reason}: nothing is pulled; ask its owner for safetensors, or name another repository")
