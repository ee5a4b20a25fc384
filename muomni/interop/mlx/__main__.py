"""A Thinker for mlx-lm, which runs language models on Apple's processors.

python -m muomni.interop.mlx export EXPORT out=FOLDER [license=mit] [name=...] [author=...] [description=...]
                                    [languages=en,de] [metrics=FILE]

out=FOLDER       a new folder: config.json, model.safetensors in float32, tokenizer, model card;  mlx_lm.convert  quantizes it
license=ID       and the others: what the model card says
metrics=FILE     the metrics.json of the card; default: that of the run that made the export
"""

import sys

from muomni.cli.key_value import run_program
from muomni.interop.hf.command import read_words
from muomni.interop.mlx.exporting import export_mlx


def main(arguments: list[str]) -> int:
    """Run the command; notes go to standard error. Returns 2 for no command. Raises ValueError or OSError."""
    if not arguments or arguments[0] != "export":
        print(__doc__, file=sys.stderr)
        return 2
    if any(word.startswith(("quantize=", "dtype=", "q_bits=", "bits=")) for word in arguments):
        raise ValueError(
            "the weights leave in float32: quantize them where they run, by  mlx_lm.convert --hf-path FOLDER -q"
        )
    words = read_words("mlx", arguments[1:])
    notes = export_mlx(words.source, words.out, about=words.about, metrics=words.metrics)
    print("\n".join([*notes, f"written: {words.out}"]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
