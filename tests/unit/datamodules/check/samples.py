"""Small data sets, whole or broken, and the plan of a training on them."""

import json
from pathlib import Path

import torch
from PIL import Image

from datamodules.check.plan import Plan, Source
from datamodules.check.run import check
from muomni.frontends.audio_io import write_audio

OPTIONS = {
    "speech": {
        "mel": {"sample_rate": 16000, "hop": 160}, "max_seconds": 15.0, "lowercase": True, "characters": None,
        "symbol_frames": 4, "batch_size": 16, "batch_tokens": None, "speakers": None, "test_kinds": None, "in_words": False,
    },
    "image_text": {"image": {"size": 16}, "max_length": 96, "vocab_size": 600},
    "ocr": {"image": {"size": 16}, "max_characters": 8, "characters": None},
    "text": {"max_length": 64, "vocab_size": 600},
    "sft": {"max_length": 64, "image_tokens": "grid", "image_grid": 3, "mel": {"sample_rate": 16000, "hop": 160},
            "audio_downsample": 4, "audio_stack": 4, "image": {"size": 16}},
}  # fmt: skip


def sound(path: Path, *, seconds: float = 1.0, seed: int = 0, rate: int = 16000, gain: float = 0.1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)
    write_audio(path, gain * noise, rate)
    return path.name


def image(path: Path, *, size: tuple[int, int] = (24, 24), colour: tuple[int, int, int] = (9, 0, 0), mode="RGB") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)
    return path.name


def lines(path: Path, rows: list) -> Path:
    """Rows as JSON lines; a text is a line as it is."""
    whole = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(whole) + "\n", encoding="utf-8")
    return path


def clips(folder: Path, count: int = 4, *, first: int = 0, **keys) -> list[dict]:
    """Rows of clips of their own, each of a second and five characters."""
    return [
        {"audio": sound(folder / f"{n}.wav", seed=n), "text": "seven", "id": f"c{n}", **keys}
        for n in range(first, first + count)
    ]


def plan_for(shape: str, stage: str = "", *, tokenizer=None, val_given=True, **sources) -> Plan:
    """Sources: a path, or (path, split); `test_x` is test/x. Other keywords are the datamodule's options."""
    paths = {key: value for key, value in sources.items() if isinstance(value, Path | tuple)}
    options = OPTIONS[shape] | {key: value for key, value in sources.items() if key not in paths}
    found = []
    for name, value in paths.items():
        path, split = value if isinstance(value, tuple) else (value, None)
        found.append(Source(name=name.replace("_", "/"), path=path, split=split))
    return Plan(
        stage=stage or shape, data=shape, shape=shape, sources=found, options=options, tokenizer=tokenizer,
        val_given=val_given,
    )  # fmt: skip


def found_in(plan: Plan, **options) -> dict[str, list]:
    """Check -> findings, by one process."""
    found: dict[str, list] = {}
    for finding in check(plan, processes=1, **options).findings:
        found.setdefault(finding.check, []).append(finding)
    return found
