"""Pretrained models from Hugging Face folders: language models, image and audio encoders, codecs of speech (docs/pretrained.md).

python -m muomni.interop.hf import SOURCE out=checkpoints/NAME [tokenizer=PATH] [max_length=N]
python -m muomni.interop.hf export EXPORT out=FOLDER [license=mit] [name=...] [author=...] [description=...]
                                   [languages=en,de] [metrics=FILE]

SOURCE           a folder with config.json, model.safetensors (or its shards) and, for a language model, tokenizer.json;
                 where there is a network also ORG/NAME of the hub. Nothing of it is executed
out=DIR          the export folder, for infer.py, load_model and the stages
tokenizer=PATH   of a language model: a tokenizer.json, or its folder, in place of the source's own
max_length=N     of a language model: tokens of the longest sequence, fewer than its own: a long context takes memory
                 in every answer

EXPORT           its Thinker and tokenizer leave, for transformers and all that reads its folders
license=ID       and the others: what the model card says
metrics=FILE     the metrics.json of the card; default: that of the run that made the export
"""

import sys
from pathlib import Path
from typing import Any

from muomni.cli.key_value import read_options, run_program
from muomni.user_path import user_path

IMPORT: dict[str, Any] = {"out": "", "tokenizer": "", "max_length": 0}


def main(arguments: list[str]) -> int:
    """Run a command; notes go to standard error. Returns 2 for no command. Raises ValueError or FileNotFoundError."""
    if not arguments or arguments[0] not in ("import", "export"):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "export":
        from muomni.interop.hf.command import read_words
        from muomni.interop.hf.exporting import export_folder

        words = read_words("hf", arguments[1:])
        notes = export_folder(words.source, words.out, about=words.about, metrics=words.metrics)
        print("\n".join([*notes, f"written: {words.out}"]), file=sys.stderr)
        return 0
    sources = [word for word in arguments[1:] if "=" not in word]
    options = read_options([word for word in arguments[1:] if "=" in word], IMPORT)
    if len(sources) != 1 or not options["out"]:
        raise ValueError("usage:  python -m muomni.interop.hf import FOLDER out=checkpoints/NAME")
    out = user_path(options["out"])
    notes = import_folder(sources[0], out, options)
    print("\n".join([*notes, f"written: {out}"]), file=sys.stderr)
    return 0


def import_folder(source: str, out: Path, options: dict[str, Any]) -> list[str]:
    """Write the export of a folder, by what its config.json describes; returns notes."""
    from muomni.interop.hf.codec import import_codec, is_codec
    from muomni.interop.hf.encoders import import_encoder, is_encoder
    from muomni.interop.hf.folder import find_folder, read_config, read_folder
    from muomni.interop.hf.importing import import_thinker

    folder = find_folder(source)
    config = read_config(folder)
    for is_other, import_other in ((is_codec, import_codec), (is_encoder, import_encoder)):
        if is_other(config):
            for name in ("tokenizer", "max_length"):
                if options[name]:
                    raise ValueError(f"{name}={options[name]}: {folder} holds no language model; leave it out")
            return import_other(read_folder(folder), out)
    tokenizer = user_path(options["tokenizer"]) if options["tokenizer"] else None
    return import_thinker(folder, out, tokenizer=tokenizer, max_length=options["max_length"] or None)


if __name__ == "__main__":
    run_program(main)
