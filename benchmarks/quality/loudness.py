"""python -m benchmarks.quality.loudness     does the norm of image and audio tokens matter? a trained omni model, rescaled

    ckpt=checkpoints/omni_sft   scales=4,1,0.5,0.25,0.1,0.03
    world=FOLDER                default: the newest under data/world   rows=40

The tokens of a projector are multiplied by each scale while the model answers questions of the split test_iid: exact answers of
each task, next to the norm of the tokens over the mean norm of the Thinker's embeddings. The Thinker normalises what enters a
block, so that the loudness of a token is a direction in which nothing pulls: it drifts in training.
"""

from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.hearing import INSTRUCTIONS, answers, unchanged
from benchmarks.quality.recordings import world_files
from datamodules.manifests import read_manifest
from muomni import load_model
from muomni.cli.key_value import read_options, run_program
from muomni.inference.engine import Engine

OWN = {"ckpt": "checkpoints/omni_sft", "world": "", "rows": 40, "scales": ("4", "1", "0.5", "0.25", "0.1", "0.03")}
TASKS = {"audio_projector": ("audio_qa", "asr", "spoken_image_qa"), "image_projector": ("image_qa",)}


def measure(model: Engine, projector: str, rows: list[dict[str, Any]], *, scale: float) -> tuple[float, float]:
    """The loudness of the rescaled tokens over that of words, and percent of the rows that are answered exactly."""
    norms: list[float] = []

    def rescale(module: Any, arguments: Any, tokens: torch.Tensor) -> torch.Tensor:
        norms.append(float(scale * tokens.norm(dim=-1).mean()))
        return tokens * scale

    handle = model.modules[projector].register_forward_hook(rescale)
    try:
        right = answers(model, rows, unchanged, max_new_tokens=40)
    finally:
        handle.remove()
    thinker: Any = model.modules["thinker"]
    words = float(thinker.embedding.weight.detach().norm(dim=-1).mean())
    return sum(norms) / max(len(norms), 1) / words, right


def main(arguments: list[str]) -> None:
    cfg = read_options(arguments, OWN)
    torch.set_num_threads(1)
    path = Path(cfg["world"]) / INSTRUCTIONS if cfg["world"] else world_files(".", INSTRUCTIONS)[0]
    rows = read_manifest(path, shape="sft")
    model = load_model(cfg["ckpt"], device="cpu")
    for projector, tasks in TASKS.items():
        chosen = {task: [row for row in rows if row["task"] == task][: cfg["rows"]] for task in tasks}
        for scale in map(float, cfg["scales"]):
            found = {task: measure(model, projector, some, scale=scale) for task, some in chosen.items()}
            loudness = sum(ratio for ratio, _ in found.values()) / len(found)
            shares = "  ".join(f"{task} {right:.0f} %" for task, (_, right) in found.items())
            print(f"{projector:<16} x {scale:<5g} {loudness:7.1f} times as loud as words:  {shares}", flush=True)


if __name__ == "__main__":
    run_program(main)
