"""A folder -> a repository of the hub, in one commit, so that nobody pulls half of it."""

import json
from pathlib import Path

from muomni.checkpoints.export import is_export
from muomni.interop.hub.connection import LOGIN, hub, hub_api, one_line
from muomni.interop.hub.files import data_files, not_data


def push(folder: Path, repo: str, *, private: bool, message: str) -> list[str]:
    """Upload the data of an export, or of a Hugging Face or MLX folder; returns notes. private: of a repository that is not there
    yet. Raises ValueError or FileNotFoundError of one line."""
    check_model(folder)
    api = hub_api()
    if not hub().get_token():
        raise ValueError(f"no token for the hub: {LOGIN}")
    files = data_files(folder)
    with one_line(repo, "pushed to"):
        hub().utils.validate_repo_id(repo)
        if "/" not in repo:
            raise ValueError(f"repo={repo}: a repository is USER/NAME")
        url = api.create_repo(repo, private=private, exist_ok=True)
        operations = [hub().CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=str(path)) for path in files]
        api.create_commit(repo, operations, commit_message=message)
    others = [path.name for path in folder.iterdir() if path not in files]
    notes = [f"stay here: {', '.join(sorted(others)[:5])}"] if others else []
    refused = not_data(others)
    if refused:
        notes.append(f"not pushed, since no reader should execute them: {refused}")
    return [*notes, f"pushed: {len(files)} files to {url}"]


def check_model(folder: Path) -> None:
    """Raise ValueError where a folder holds no model that others can read as data."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no such folder: {folder}: name an export, or what  python -m muomni.interop.hf export  wrote"
        )
    if is_export(folder):
        return
    config = folder / "config.json"
    if not config.is_file() and any(folder.glob("*.gguf")):
        return
    if not config.is_file() or not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder}: neither an export (model.yaml, model.safetensors) nor a Hugging Face folder (config.json, .safetensors), "
            "nor one with a .gguf"
        )
    check_code(config)


def check_code(config: Path) -> None:
    """Raise ValueError where a config.json asks for code, or is none."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{config.name} is no JSON") from error
    if not isinstance(content, dict) or content.get("auto_map"):
        raise ValueError(f"{config.name} asks for code (auto_map), which is never executed")
