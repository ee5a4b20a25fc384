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

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.quality.recordings import Clip, read_clips, world_files
from benchmarks.results import table, write_results
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
INSTRUCTIONS = "instructions/test_iid.jsonl"
Change = Callable[[Tensor, torch.Generator], Tensor]


def silence(before: float, after: float) -> Change:
    """Seconds of digital silence on both sides."""
    return lambda clip, _: torch.nn.functional.pad(clip, (round(before * RATE), round(after * RATE)))


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


def unchanged(clip: Tensor, _: torch.Generator) -> Tensor:
    return clip


def telephone(clip: Tensor, _: torch.Generator) -> Tensor:
    """Through 8 kHz and back."""
    return resample(resample(clip, RATE, 8000), 8000, RATE)


CONDITIONS: dict[str, Change] = {
    "clean": unchanged,
    **{
        f"silence {a:g} s before, {b:g} s after": silence(a, b)
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
    return [rows[index] for index in sorted(random.Random(0).sample(range(len(rows)), count))]


def transcripts(engine: Engine, clips: list[Clip], change: Change) -> dict[str, float]:
    """Error rates of a recognizer under a condition."""
    generator = torch.Generator().manual_seed(0)
    heard = [engine.transcribe(change(clip, generator)) for clip, _ in clips]
    return error_rates(heard, [text for _, text in clips])


def answers(engine: Engine, rows: list[dict[str, Any]], change: Change, *, max_new_tokens: int = 16) -> float:
    """Percent of the conversations' answers that are right under a condition."""
    generator, right = torch.Generator().manual_seed(0), 0
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        requests = []
        for row in some:
            content = [dict(item) for item in row["messages"][0]["content"]]
            for item in content:
                if item["type"] == "audio":
                    item["audio"] = change(read_audio(item["audio"], RATE), generator)
            requests.append(Request(messages=[{"role": "user", "content": content}]))
        said = engine.generate_batch(requests, max_new_tokens=max_new_tokens)
        right += sum(a.strip() == text_of(row["messages"][-1]).strip() for a, row in zip(said, some, strict=True))
    return 100 * right / len(rows)


def measure(engine: Engine, options: dict[str, Any], changes: dict[str, Change]) -> list[dict[str, Any]]:
    """A row of the table for each condition."""
    rows: list[dict[str, Any]] = [{"condition": name} for name in changes]
    count, split, root = options["clips"], options["split"] or None, options["root"]
    for path in [options["manifest"]] if options["manifest"] else world_files(root, "speech/test*.jsonl"):
        some = drawn(list(read_manifest(path, shape="speech", split=split)), count)
        clips = read_clips(some, RATE, lowercase=options["lowercase"])
        for row, change in zip(rows, changes.values(), strict=True):
            rates = transcripts(engine, clips, change)
            row[f"WER / CER {Path(path).stem}"] = f"{rates['wer']:.1f} / {rates['cer']:.1f}"
    if "thinker" not in engine.modules:
        return rows
    ours = world_files(root, INSTRUCTIONS, optional=bool(options["manifest"]))
    talks = [options["instructions"]] if options["instructions"] else ours
    for path, task in itertools.product(talks, TASKS):
        some = [talk for talk in read_manifest(path, shape="sft", split=split) if talk.get("task") == task]
        some = drawn([talk for talk in some if len(talk["messages"]) == 2], count)
        for row, change in zip(rows, changes.values(), strict=True):
            row[f"{task} right"] = f"{answers(engine, some, change):.0f}" if some else "-"
    return rows


def main(arguments: list[str]) -> None:
    options = read_options(arguments, DEFAULTS)
    wanted = options["conditions"]
    if unknown := [name for name in wanted if not any(key.startswith(name) for key in CONDITIONS)]:
        raise ValueError(f"conditions={unknown[0]}: available: {'; '.join(CONDITIONS)}")
    changes = {key: change for key, change in CONDITIONS.items() if not wanted or key.startswith(("clean", *wanted))}
    folder = Path(options["root"]) / "checkpoints"
    trained = [folder / name for name in ("audio", "omni_sft") if (folder / name).is_dir()]
    exports = [Path(options["ckpt"])] if options["ckpt"] else trained
    if not exports:
        raise FileNotFoundError(f"no export under {folder}: train stage=audio, or name one by ckpt=")
    result: dict[str, Any] = {"options": options}
    for path in exports:
        result[str(path)] = rows = measure(load_model(path, device="cpu"), options, changes)
        print(f"\n{path}:\n{table(rows)}", flush=True)
    write_results(options["out"], result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_program(main)
