"""Import and export of micro-omni's checkpoints.

python -m muomni.interop.micro_omni import FILE [FILE ...] out=DIR [tokenizer=PATH] [modules=a,b] [fill=true] [MODULE.OPTION=N]
python -m muomni.interop.micro_omni export DIR out=FILE.pt|FILE.safetensors [modules=a,b]

import           .pt files of micro-omni's stages, or its single .safetensors -> an export folder, out=checkpoints/NAME
export           an export folder -> a file that micro-omni loads, and the Thinker's tokenizer.model next to it
tokenizer=PATH   the tokenizer.model of the Thinker's training
modules=a,b      only these modules: thinker, audio, vision, codec, talker, image_projector, audio_projector
fill=true        initialise what our modules have and theirs lack (the Talker's text side, a missing CTC head)
thinker.num_heads=8   and other options that cannot be read off the tensors; the command prints the values it assumed
"""

import sys
from pathlib import Path
from typing import Any

from muomni import aliases
from muomni.cli.key_value import run_program, split_options
from muomni.interop.micro_omni.exporting import export_checkpoint
from muomni.interop.micro_omni.importing import import_checkpoints
from muomni.user_path import user_path

OPTIONS: dict[str, dict[str, Any]] = {
    "import": {"out": "", "tokenizer": "", "modules": (), "fill": False},
    "export": {"out": "", "modules": ()},
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
        number = int(value) if value.isdecimal() else float(value)
    except ValueError:
        number = 0
    if not number > 0:
        raise ValueError(f"{argument}: a number above 0 is needed")
    return number


def main(arguments: list[str]) -> int:
    """Run a command; notes go to standard error. Returns 2 for no command. Raises ValueError or FileNotFoundError."""
    if not arguments or arguments[0] not in OPTIONS:
        print(__doc__, file=sys.stderr)
        return 2
    paths, chosen, module_options = parse(
        arguments[0], [new for word in arguments[1:] for new in aliases.override(word)]
    )
    out, modules = user_path(chosen["out"]), list(chosen["modules"]) or None
    if arguments[0] == "export":
        notes = export_checkpoint(paths[0], out, modules=modules)
    else:
        tokenizer = user_path(chosen["tokenizer"]) if chosen["tokenizer"] else None
        notes = import_checkpoints(
            paths, out, tokenizer=tokenizer, modules=modules, fill=chosen["fill"], options=module_options
        )
    print("\n".join([*notes, f"written: {out}"]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
