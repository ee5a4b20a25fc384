"""Thinkers for llama.cpp, as GGUF files, and back.

python -m muomni.interop.gguf export EXPORT out=FILE.gguf [dtype=f32|f16|bf16|q8_0] [license=mit]
                                     [name=...] [author=...] [description=...] [languages=en,de]
python -m muomni.interop.gguf import FILE.gguf out=EXPORT

dtype=f32        of the matrices; norms and biases are float32
license=ID       and the others: what the file says of itself
"""

import sys

from muomni.cli.key_value import read_options, run_program
from muomni.user_path import user_path


def main(arguments: list[str]) -> int:
    """Run a command; notes go to standard error. Returns 2 for no command. Raises ValueError or OSError."""
    if not arguments or arguments[0] not in ("export", "import"):
        print(__doc__, file=sys.stderr)
        return 2
    command, words = arguments[0], arguments[1:]
    if command == "export":
        from muomni.interop.gguf.exporting import export_gguf
        from muomni.interop.hf.command import read_words

        read = read_words("gguf", words, {"dtype": "f32"})
        out, notes = read.out, export_gguf(read.source, read.out, dtype=read.rest["dtype"], about=read.about)
    else:
        from muomni.interop.gguf.importing import import_gguf

        sources = [word for word in words if "=" not in word]
        options = read_options([word for word in words if "=" in word], {"out": ""})
        if len(sources) != 1 or not options["out"]:
            raise ValueError("usage:  python -m muomni.interop.gguf import FILE.gguf out=checkpoints/NAME")
        out = user_path(options["out"])
        notes = import_gguf(user_path(sources[0]), out)
    print("\n".join([*notes, f"written: {out}"]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
