"""README.md of a folder of ONNX files, made of its model.json."""

from collections.abc import Mapping
from typing import Any

HEAD = """# {names}

ONNX graphs, written by {made_by} (opset {opset}, weights {dtype}). `model.json` holds the same in a form for programs, with the
numbers of the frontends, the symbols and the prompt format.

    pip install onnxruntime

Sizes are numbers; an axis that has a name may have any size. Whole numbers are int64, all else float32.
"""

TOKENIZER = {
    "tokenizer.model": "Tokenizer: `tokenizer.model`, of the library sentencepiece.\n",
    "tokenizer.json": "Tokenizer: `tokenizer.json`, of the library tokenizers; `ids` in `model.json` lists, for each id of "
    "its own, the one that the graphs take.\n",
}


def readme(document: Mapping[str, Any]) -> str:
    """model.json -> README.md."""
    graphs = document["graphs"]
    lines = [HEAD.format(names=", ".join(graphs), **{key: document[key] for key in ("made_by", "opset", "dtype")})]
    if "tokenizer" in document:
        lines.append(TOKENIZER[document["tokenizer"]["file"]])
    for name, graph in graphs.items():
        lines += [f"## {name}.onnx", "", f"{graph['about']}.", "", "| | name | shape | |", "|---|---|---|---|"]
        for side in ("inputs", "outputs"):
            ports = graph[side]
            shown = ports if len(ports) < 12 else _shortened(ports)
            lines += [f"| {side[:-1]} | {port['name']} | {_shape(port)} | {port['about']} |" for port in shown]
        if "prompt" in graph:
            lines += ["", f"Prompt: {graph['prompt']}.", "", f"Ids: {graph['special_tokens']}."]
        if "sherpa_onnx" in graph:
            lines += ["", f"sherpa-onnx: `{graph['sherpa_onnx']}`"]
        lines.append("")
    return "\n".join(lines)


def _shape(port: Mapping[str, Any]) -> str:
    dtype = "" if port["dtype"] == "float32" else f" {port['dtype']}"
    return f"({', '.join(map(str, port['shape']))}){dtype}"


def _shortened(ports: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the layers of a cache after the first."""
    return [port for port in ports if not port["name"].startswith(("past.", "present.")) or ".0." in port["name"]]
