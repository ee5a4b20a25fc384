"""Pretrained language models from Hugging Face folders.

python -m muomni.interop.hf import SOURCE out=checkpoints/NAME [tokenizer=PATH] [max_length=N]

SOURCE           a folder with config.json, model.safetensors (or its shards) and tokenizer.json; where there is a network also
                 ORG/NAME of the hub. Nothing of it is executed
out=DIR          the export folder, for infer.py, load_model and the stages
tokenizer=PATH   a tokenizer.json, or its folder, in place of the source's own
max_length=N     tokens of the longest sequence, fewer than the model's: a long context takes memory in every answer
"""

import sys
from typing import Any

from muomni.cli.key_value import read_options, run_program
from muomni.user_path import user_path

IMPORT: dict[str, Any] = {"out": "", "tokenizer": "", "max_length": 0}


def main(arguments: list[str]) -> int:
    """Run a command; notes go to standard error. Returns 2 for no command. Raises ValueError or FileNotFoundError."""
    if not arguments or arguments[0] != "import":
        print(__doc__, file=sys.stderr)
        return 2
    from muomni.interop.hf.importing import import_thinker

    sources = [word for word in arguments[1:] if "=" not in word]
    options = read_options([word for word in arguments[1:] if "=" in word], IMPORT)
    if len(sources) != 1 or not options["out"]:
        raise ValueError("usage:  python -m muomni.interop.hf import FOLDER out=checkpoints/NAME")
    out = user_path(options["out"])
    notes = import_thinker(
        sources[0], out,
        tokenizer=user_path(options["tokenizer"]) if options["tokenizer"] else None,
        max_length=options["max_length"] or None,
    )  # fmt: skip
    print("\n".join([*notes, f"written: {out}"]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
