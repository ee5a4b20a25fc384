"""Exports as ONNX graphs, for onnxruntime and sherpa-onnx (docs/pretrained.md).

python -m muomni.interop.onnx export EXPORT out=FOLDER [parts=a,b] [opset=18] [dtype=f32|f16|int8]

parts=a,b    only these graphs, default all that the export has: thinker; vision, image_projector, image_head, text_tower;
             hearing, audio, audio_projector, recognizer (waveform to text, also for sherpa-onnx);
             talker_text, talker, codec_mel, codec_encoder, codec_decoder, vocoder
opset=18     of ONNX, 18 to 23
dtype=f32    of the weights: f32, f16, or int8 (of matrix products; needs onnxruntime's own operators)

Each graph is run by onnxruntime next to torch before the folder is there. pip install 'muomni[onnx]'
"""

import sys
from typing import Any

from muomni.cli.key_value import read_options, run_program
from muomni.interop.onnx.folder import export_onnx
from muomni.user_path import user_path

OPTIONS: dict[str, Any] = {"out": "", "parts": (), "opset": 18, "dtype": "f32"}


def main(arguments: list[str]) -> int:
    """Run the command; notes go to standard error. Returns 2 for no command. Raises ValueError or FileNotFoundError."""
    if not arguments or arguments[0] != "export":
        print(__doc__, file=sys.stderr)
        return 2
    paths = [argument for argument in arguments[1:] if "=" not in argument]
    options = read_options([argument for argument in arguments[1:] if "=" in argument], OPTIONS)
    if len(paths) != 1 or not options["out"]:
        raise ValueError("usage:  python -m muomni.interop.onnx export checkpoints/NAME out=FOLDER")
    out = user_path(options["out"])
    chosen = {"wanted": options["parts"], "opset": options["opset"], "dtype": options["dtype"]}
    export_onnx(user_path(paths[0]), out, **chosen, report=_say)
    _say(f"written: {out}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_program(main)
