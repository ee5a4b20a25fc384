"""python -m benchmarks.quality.hearing     what silence, level, a telephone's band and noise cost, in error rates and answers

    root=.            folder of data/world and checkpoints/
    ckpt=             an export; default: ROOT/checkpoints/audio and ROOT/checkpoints/omni_sft, those that are there
    manifest=         recordings with their texts of your own; default: test splits of the newest world under ROOT
    split=            keep only the rows whose "split" is this
    instructions=     conversations with audio, for an export that answers; default: the world's test_iid
    clips=100         recordings of each manifest, drawn by chance, the same each time
    lowercase=true    texts in small letters
    conditions=       names, separated by commas; default: all            out=reports/hearing.json

The clean clip comes first; each condition changes its waveform alone. WER and CER in percent by greedy decoding; answers in
percent that are exactly right (tasks audio_qa and spoken_image_qa, sound with its picture).
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import write_results
from datamodules.manifests import read_manifest
from muomni import load_model
from muomni.cli.key_value import read_options, run_program
from muomni.frontends.audio_io import read_audio, resample
from muomni.frontends.chat import text_of
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request
from muomni.metrics.error_rates import error_rates

DEFAULTS = {
    "root": ".", "ckpt": "", "manifest": "", "split": "", "instructions": "", "clips": 100, "lowercase": True,
    "conditions": (), "out": "reports/hearing.json",
}  # fmt: skip
RATE = 16_000
BATCH = 25  # conversations that are answered at once
TASKS = ("audio_qa", "spoken_image_qa")
Change = Callable[[Tensor, torch.Generator], Tensor]


def silence(before: float, behind: float) -> Change:
    """Seconds of digital silence on both sides."""
    return lambda clip, _: torch.nn.functional.pad(clip, (round(before * RATE), round(behind * RATE)))


def level(decibels: float) -> Change:
    """The clip's peak is brought to full scale, and from there to a level; as a 16-bit file holds it."""

    def change(clip: Tensor, _: torch.Generator) -> Tensor:
        scaled = clip / clip.abs().max().clamp_min(1e-9) * 10 ** (decibels / 20)
        return (scaled * 32767).round() / 32767

    return change


def noise(snr: float, *, colour: float = 0.0, around: float = 0.0) -> Change:
    """Noise whose amplitude falls with a power of frequency, `snr` dB below the clip; seconds of it on both sides too."""

    def change(clip: Tensor, generator: torch.Generator) -> Tensor:
        whole = torch.nn.functional.pad(clip, (round(around * RATE), round(around * RATE)))
        spectrum = torch.fft.rfft(torch.randn(len(whole), generator=generator))
        coloured = torch.fft.irfft(spectrum / torch.arange(1, len(spectrum) + 1) ** colour, len(whole))
        rms = clip.square().mean().sqrt() * 10 ** (-snr / 20)
        return whole + coloured / coloured.square().mean().sqrt() * rms

    return change


def telephone(clip: Tensor, _: torch.Generator) -> Tensor:
    """Through 8 kHz and back."""
    return resample(resample(clip, RATE, 8000), 8000, RATE)


CONDITIONS: dict[str, Change] = {
    "clean": lambda clip, _: clip,
    **{
        f"silence {a:g} s before, {b:g} s behind": silence(a, b)
        for a, b in ((0, 0.5), (0.5, 0.5), (0, 2), (2, 2), (0, 4), (4, 4), (10, 0), (0, 10), (10, 10))
    },
    **{f"level {decibels} dB": level(decibels) for decibels in (0, -20, -40)},
    "telephone, 8 kHz": telephone,
    "white noise, 20 dB": noise(20.0),
    "pink noise, 20 dB": noise(20.0, colour=0.5),
    "white noise, 20 dB, 3 s of it on both sides": noise(20.0, around=3.0),
}


def drawn(rows: list[Any], count: int) -> list[Any]:
    """`count` of the rows in their order, the same ones each time. Every second row of a world's file is of one kind, so rows
    that are evenly spread would not stand for all."""
    if len(rows) <= count:
        return rows
    return [rows[place] for place in sorted(random.Random(0).sample(range(len(rows)), count))]


def transcripts(engine: Engine, clips: list[tuple[Tensor, str]], change: Change) -> dict[str, float]:
    """Error rates of a recognizer under a condition."""
    generator = torch.Generator().manual_seed(0)
    heard = [engine.transcribe(change(clip, generator)) for clip, _ in clips]
    return error_rates(heard, [text for _, text in clips])


def answers(engine: Engine, rows: list[dict[str, Any]], change: Change) -> float:
    """Percent of the conversations' answers that are right under a condition."""
    generator, right = torch.Generator().manual_seed(0), 0
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        asked = [
            [
                {**item, "audio": change(read_audio(item["audio"], RATE), generator)}
                if item["type"] == "audio"
                else item
                for item in row["messages"][0]["content"]
            ]
            for row in some
        ]
        requests = [Request(messages=[{"role": "user", "content": content}]) for content in asked]
        said = engine.generate_batch(requests, max_new_tokens=16)
        right += sum(a.strip() == text_of(row["messages"][-1]).strip() for a, row in zip(said, some, strict=True))
    return 100 * right / len(rows)


def table(columns: dict[str, dict[str, str]]) -> str:
    """Table with a row for each condition and a column for each measure."""
    lines = [["condition", *columns]]
    lines += [[name, *(column.get(name, "-") for column in columns.values())] for name in next(iter(columns.values()))]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def world_file(root: str, pattern: str) -> list[Path]:
    """Files of the newest world under a root."""
    worlds = sorted(Path(root).glob("data/world/*/fingerprint.json"), key=lambda path: path.stat().st_mtime)
    return sorted(worlds[-1].parent.glob(pattern)) if worlds else []


def measure(engine: Engine, options: dict[str, Any], changes: dict[str, Change]) -> dict[str, dict[str, str]]:
    """Columns of the table for one export."""
    columns: dict[str, dict[str, str]] = {}
    count, split = options["clips"], options["split"] or None
    paths = [Path(options["manifest"])] if options["manifest"] else world_file(options["root"], "speech/test*.jsonl")
    for path in paths:
        rows = drawn(read_manifest(path, shape="speech", split=split), count)
        lower = options["lowercase"]
        clips = [(read_audio(row["audio"], RATE), row["text"].lower() if lower else row["text"]) for row in rows]
        column = columns[f"WER / CER {path.stem}"] = {}
        for name, change in changes.items():
            rates = transcripts(engine, clips, change)
            column[name] = f"{rates['wer']:.1f} / {rates['cer']:.1f}"
    talks = (
        [Path(options["instructions"])]
        if options["instructions"]
        else world_file(options["root"], "instructions/test_iid.jsonl")
    )
    if "thinker" not in engine.modules:
        return columns
    for path in talks:
        rows = read_manifest(path, shape="sft", split=split)
        for task in TASKS:
            asked = drawn([row for row in rows if row.get("task") == task and len(row["messages"]) == 2], count)
            if asked:
                columns[f"{task} right"] = {name: f"{answers(engine, asked, to):.0f}" for name, to in changes.items()}
    return columns


def main(arguments: list[str]) -> None:
    """Measures, prints and writes the results."""
    options = read_options(arguments, DEFAULTS)
    wanted = options["conditions"]
    if unknown := [name for name in wanted if not any(key.startswith(name) for key in CONDITIONS)]:
        raise ValueError(f"conditions={unknown[0]}: available: {'; '.join(CONDITIONS)}")
    changes = {key: change for key, change in CONDITIONS.items() if not wanted or key.startswith(("clean", *wanted))}
    folder = Path(options["root"]) / "checkpoints"
    exports = [Path(options["ckpt"])] if options["ckpt"] else [folder / "audio", folder / "omni_sft"]
    exports = [path for path in exports if options["ckpt"] or path.is_dir()]
    if not exports:
        raise FileNotFoundError(f"no export under {folder}: train stage=audio, or name one by ckpt=")
    result: dict[str, Any] = {"options": options}
    for path in exports:
        result[str(path)] = columns = measure(load_model(path, device="cpu"), options, changes)
        if not columns:
            raise FileNotFoundError(f"no world under {options['root']}/data/world: name manifest=FILE")
        print(f"\n{path}:\n{table(columns)}", flush=True)
    write_results(options["out"], result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_program(main)
