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

from muomni.interop.micro_omni.exporting import export_checkpoint
from muomni.interop.micro_omni.importing import import_checkpoints
from muomni.user_path import user_path

OPTIONS = {"import": ("out", "tokenizer", "parts", "fill"), "export": ("out", "parts")}


def parse(command: str, arguments: list[str]) -> tuple[list[Path], dict[str, str], dict[str, dict[str, Any]]]:
    """Paths, options and options of modules. Raises ValueError naming an unknown argument."""
    paths: list[Path] = []
    chosen: dict[str, str] = {}
    module_options: dict[str, dict[str, Any]] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        module, dot, option = key.partition(".")
        if not equals:
            paths.append(user_path(argument))
        elif key in OPTIONS[command]:
            chosen[key] = value
        elif dot and command == "import":
            module_options.setdefault(module, {})[option] = _number(argument, value)
        else:
            raise ValueError(f"unknown option {key!r}; available: {', '.join(OPTIONS[command])}")
    if "out" not in chosen or not paths or (command == "export" and len(paths) > 1):
        usage = "FILE.pt out=checkpoints/NAME" if command == "import" else "checkpoints/NAME out=FILE.pt"
        raise ValueError(f"usage:  python -m muomni.interop.micro_omni {command} {usage}")
    if chosen.get("fill", "false") not in ("true", "false"):
        raise ValueError(f"fill={chosen['fill']}: true or false")
    return paths, chosen, module_options


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
        parts = chosen["parts"].split(",") if "parts" in chosen else None
        if command == "export":
            notes = export_checkpoint(paths[0], out, parts=parts)
        else:
            tokenizer = user_path(chosen["tokenizer"]) if "tokenizer" in chosen else None
            fill = chosen.get("fill") == "true"
            notes = import_checkpoints(paths, out, tokenizer=tokenizer, parts=parts, fill=fill, options=module_options)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join([*notes, f"written: {out}"]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
