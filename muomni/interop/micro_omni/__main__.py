"""Import and export of micro-omni's checkpoints.

python -m muomni.interop.micro_omni import FILE [FILE ...] out=DIR [tokenizer=PATH] [parts=a,b] [fill=true] [PART.OPTION=VALUE]
python -m muomni.interop.micro_omni export DIR out=FILE.pt|FILE.safetensors [parts=a,b]

import           .pt files of micro-omni's stages, or its single .safetensors -> an export folder, out=checkpoints/NAME
export           an export folder -> a file that micro-omni loads, and the Thinker's tokenizer.model next to it
tokenizer=PATH   the tokenizer.model of the Thinker's training
parts=a,b        only these modules: thinker, audio, vision, codec, talker, image_projector, audio_projector
fill=true        initialise what our modules have and theirs lack (the Talker's text side, a missing CTC head)
thinker.num_heads=8   and other options that cannot be read off the tensors; the command prints the values it assumed
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from muomni.cli.key_value import split_options
from muomni.interop.micro_omni.exporting import export_checkpoint
from muomni.interop.micro_omni.importing import import_checkpoints
from muomni.user_path import user_path

OPTIONS: dict[str, dict[str, Any]] = {
    "import": {"out": "", "tokenizer": "", "parts": (), "fill": False},
    "export": {"out": "", "parts": ()},
}


def parse(command: str, arguments: list[str]) -> tuple[list[Path], dict[str, Any], dict[str, dict[str, Any]]]:
    """Paths, options and options of modules. Raises ValueError naming an unknown argument."""
    paths = [user_path(argument) for argument in arguments if "=" not in argument]
    options, rest = split_options([argument for argument in arguments if "=" in argument], OPTIONS[command])
    module_options: dict[str, dict[str, Any]] = {}
    for argument in rest:
        key, _, value = argument.partition("=")
        module, dot, option = key.partition(".")
        if not dot or command == "export":
            raise ValueError(f"unknown option {key!r}; available: {', '.join(OPTIONS[command])}")
        module_options.setdefault(module, {})[option] = _number(argument, value)
    if not options["out"] or not paths or (command == "export" and len(paths) > 1):
        usage = "FILE.pt out=checkpoints/NAME" if command == "import" else "checkpoints/NAME out=FILE.pt"
        raise ValueError(f"usage:  python -m muomni.interop.micro_omni {command} {usage}")
    return paths, options, module_options


def _number(argument: str, value: str) -> float:
    try:
        number = yaml.safe_load(value)
    except yaml.YAMLError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
        raise ValueError(f"{argument}: a number above 0 is needed")
    return number


def main(arguments: list[str]) -> int:
    """Run a command; returns 0 for success, 1 for bad input, 2 for no command. Notes go to standard error."""
    if not arguments or arguments[0] not in OPTIONS:
        print(__doc__, file=sys.stderr)
        return 2
    command, *rest = arguments
    try:
        paths, chosen, module_options = parse(command, rest)
        out = user_path(chosen["out"])
        parts = list(chosen["parts"]) or None
        if command == "export":
            notes = export_checkpoint(paths[0], out, modules=parts)
        else:
            tokenizer = user_path(chosen["tokenizer"]) if chosen["tokenizer"] else None
            notes = import_checkpoints(
                paths, out, tokenizer=tokenizer, modules=parts, fill=chosen["fill"], options=module_options
            )
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join([*notes, f"written: {out}"]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
