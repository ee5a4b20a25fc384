"""The speech recognizer as sherpa-onnx takes it: one graph from the waveform to log probabilities, and tokens.txt.

sherpa-onnx's own features (kaldi-native-fbank) are others than ours, so that a model that takes features would be given what it
was not trained on. Its Omnilingual ASR type takes the waveform, scaled to mean 0 and variance 1; what our graph computes does
not depend on that scale (hearing.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

RATE = 16000  # Hz: sherpa-onnx resamples to it for models that take waveforms
SPACE = "\u2581"  # what a space is in tokens.txt, whose columns are separated by spaces
LOADED_BY = "sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(model='recognizer.onnx', tokens='tokens.txt')"


def write_recognizer(path: Path, *, hearing: Path, audio: Path) -> dict[str, Any]:
    """Join the files hearing.onnx and audio.onnx to one from waveform to log_probs -> its description for model.json."""
    import onnx
    from onnx import compose

    first, second = onnx.load(hearing), onnx.load(audio)
    first, second = compose.add_prefix(first, "hearing."), compose.add_prefix(second, "audio.")
    lengths = [value.name for value in first.graph.output][1:] or None
    pairs = [("hearing.mel", "audio.mel")] + [(name, "audio.lengths") for name in lengths or ()]
    joined = compose.merge_models(first, second, io_map=pairs, outputs=["audio.log_probs"])
    _rename(joined, {"hearing.waveform": "waveform", "audio.log_probs": "log_probs"})
    joined.metadata_props.add(key="model_type", value="muomni_ctc")
    onnx.save(joined, path)
    dims = joined.graph.output[0].type.tensor_type.shape.dim
    return {
        "file": path.name,
        "about": "waveform -> CTC log probabilities of characters: hearing.onnx and audio.onnx in one",
        "inputs": [{"name": "waveform", "dtype": "float32", "shape": ["batch", "samples"], "about": "mono, rows of one length"}],
        "outputs": [
            {
                "name": "log_probs", "dtype": "float32", "shape": ["batch", "steps", dims[2].dim_value],
                "about": "of the speech; blank (0) after it",
            }
        ],
        "sherpa_onnx": LOADED_BY,
    }  # fmt: skip


def _rename(model: Any, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)


def tokens_text(symbols: Sequence[str]) -> str:
    """tokens.txt: a symbol and its number a line. Space, tab and line end are all written as a space."""
    lines = ["<blk> 0"]
    for number, symbol in enumerate(symbols[1:], start=1):
        lines.append(f"{SPACE if symbol.isspace() else symbol} {number}")
    return "\n".join(lines) + "\n"
