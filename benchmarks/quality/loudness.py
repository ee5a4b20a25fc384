"""python -m benchmarks.quality.loudness     does the norm of image and audio tokens matter? a trained omni model, rescaled

    ckpt=checkpoints/omni_sft   scales=4,1,0.5,0.25,0.1,0.03
    world=FOLDER                default: the newest under data/world   rows=40

The tokens of a projector are multiplied by each scale while the model answers questions of the split test_iid: exact answers of
each task, next to the norm of the tokens over the mean norm of the Thinker's embeddings. The Thinker normalises what enters a
block, so that the loudness of a token is a direction in which nothing pulls: it drifts in training.
"""

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.hearing import world_file
from muomni import load_model
from muomni.cli.key_value import read_options, run_program
from muomni.inference.engine import Engine

OWN = {"ckpt": "checkpoints/omni_sft", "world": "", "rows": 40, "scales": ("4", "1", "0.5", "0.25", "0.1", "0.03")}
TASKS = {"audio_projector": ("audio_qa", "asr", "spoken_image_qa"), "image_projector": ("image_qa",)}


def ask(model: Engine, row: dict[str, Any], folder: Path) -> bool:
    """Whether a row of the world's instructions is answered exactly."""
    content, answer = (message["content"] for message in row["messages"][:2])
    media = {
        kind: [str(folder / item[kind]) for item in content if item["type"] == kind] for kind in ("image", "audio")
    }
    text = " ".join(item["text"] for item in content if item["type"] == "text")
    wanted = " ".join(item["text"] for item in answer if "text" in item)
    return model.generate(text, max_new_tokens=40, **media).strip() == wanted.strip()


def measure(model: Engine, part: str, rows: list[dict[str, Any]], folder: Path, *, scale: float) -> tuple[float, int]:
    """The loudness of the rescaled tokens over that of words, and how many rows are answered exactly."""
    norms: list[float] = []

    def rescale(module: Any, arguments: Any, tokens: torch.Tensor) -> torch.Tensor:
        norms.append(float(scale * tokens.norm(dim=-1).mean()))
        return tokens * scale

    handle = model.modules[part].register_forward_hook(rescale)
    try:
        right = sum(ask(model, row, folder) for row in rows)
    finally:
        handle.remove()
    words = float(model.modules["thinker"].embedding.weight.detach().norm(dim=-1).mean())  # type: ignore[union-attr,operator]
    return sum(norms) / max(len(norms), 1) / words, right


def main(arguments: list[str]) -> None:
    """Print the table."""
    cfg = read_options(arguments, OWN)
    torch.set_num_threads(1)
    name = "instructions/test_iid.jsonl"
    files = [Path(cfg["world"]) / name] if cfg["world"] else world_file(".", name)
    if not files:
        raise FileNotFoundError("no world under data/world; world=FOLDER names one")
    rows = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()]
    model = load_model(cfg["ckpt"], device="cpu")
    for part, tasks in TASKS.items():
        chosen = {task: [row for row in rows if row["task"] == task][: cfg["rows"]] for task in tasks}
        for scale in map(float, cfg["scales"]):
            found = {task: measure(model, part, some, files[0].parent, scale=scale) for task, some in chosen.items()}
            loudness = sum(ratio for ratio, _ in found.values()) / len(found)
            counts = "  ".join(f"{task} {right}/{len(chosen[task])}" for task, (_, right) in found.items())
            print(f"{part:<16} x {scale:<5g} {loudness:7.1f} times as loud as words:  {counts}", flush=True)


if __name__ == "__main__":
    run_program(main)
