"""Folders to the Hugging Face hub and from it, by huggingface_hub.

python -m muomni.interop.hub push FOLDER repo=USER/NAME [private=true] [message="..."]
python -m muomni.interop.hub pull USER/NAME out=FOLDER [revision=main]

push             an export, or a folder of `python -m muomni.interop.hf export`; the repository is made where there is none
pull             a repository -> a new folder; pickles and code stay on the hub, and a model that needs them is refused
private=true     a new repository is private
revision=NAME    a branch, a tag, or a commit

The token is that of  hf auth login  or HF_TOKEN; another hub of the same kind is HF_ENDPOINT=URL.
"""

import sys
from typing import Any

from muomni.cli.key_value import read_options, run_program
from muomni.interop.hub.pulling import pull
from muomni.interop.hub.pushing import push
from muomni.user_path import user_path

OPTIONS: dict[str, dict[str, Any]] = {
    "push": {"repo": "", "private": False, "message": "Upload by muomni"},
    "pull": {"out": "", "revision": "main"},
}
USAGE = {"push": "checkpoints/NAME repo=USER/NAME", "pull": "USER/NAME out=FOLDER"}


def main(arguments: list[str]) -> int:
    """Run a command; what was done goes to standard error. Returns 2 for no command. Raises ValueError or OSError."""
    if not arguments or arguments[0] not in OPTIONS:
        print(__doc__, file=sys.stderr)
        return 2
    command, words = arguments[0], arguments[1:]
    sources = [word for word in words if "=" not in word]
    options = read_options([word for word in words if "=" in word], OPTIONS[command])
    if len(sources) != 1 or not options["repo" if command == "push" else "out"]:
        raise ValueError(f"usage:  python -m muomni.interop.hub {command} {USAGE[command]}")
    if command == "push":
        notes = push(user_path(sources[0]), options["repo"], private=options["private"], message=options["message"])
    else:
        notes = pull(sources[0], user_path(options["out"]), revision=options["revision"])
    print("\n".join(notes), file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
