"""python -m benchmarks.quality.asr     error rates of a trained recognizer: greedy, beams, language models, long recordings

    root=.                folder of data/world and checkpoints/    ckpt=ROOT/checkpoints/audio
    train= val= test=     manifests of speech; default: those of the newest world under ROOT (test: test and test_voice)
    beams=16              order=6 of the character n-gram           lowercase=true
    tune=false            true: a grid of weights over val first (the defaults in muomni/inference/asr/ctc_decoders.py come of it)
    what=clips,long       single clips, long recordings or both     out=reports/asr.json

Language models are trained on the texts of the training manifest alone. With a Thinker in the export it ranks beams too.
Long recordings are the clips of a split, GLUED at a time, one after the other: at once, or after half a second of silence.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.results import write_results
from datamodules.manifests import read_manifest
from muomni import load_model
from muomni.cli.key_value import read_options, run_program
from muomni.frontends.audio_io import read_audio
from muomni.inference.asr.ctc_beam import CtcBeamSearch
from muomni.inference.asr.ctc_decoders import CtcBeamDecoder, CtcDecoder, build_decoder, greedy_decode
from muomni.inference.asr.ngram import NGram, read_texts, train_ngram
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.inference.asr.transcribe import WINDOWS, Transcriber
from muomni.inference.engine import Engine
from muomni.metrics.error_rates import error_rates

DEFAULTS = {
    "root": ".", "ckpt": "", "train": "", "val": "", "test": "", "beams": 16, "order": 6, "lowercase": True,
    "tune": False, "what": ("clips", "long"), "out": "reports/asr.json",
}  # fmt: skip
GLUED = 10
Row = dict[str, Any]
Clip = tuple[Tensor, str]  # waveform (N) and what is said in it


def manifests(options: dict[str, Any]) -> dict[str, dict[str, Path]]:
    """train, val, test -> manifests by the name of their split."""
    worlds = sorted(Path(options["root"]).glob("data/world/*/speech"), key=lambda path: path.stat().st_mtime)
    found: dict[str, dict[str, Path]] = {}
    for what, splits in (("train", ["train"]), ("val", ["val"]), ("test", ["test", "test_voice"])):
        if options[what]:
            found[what] = {what: Path(options[what])}
        elif worlds:
            found[what] = {split: worlds[-1] / f"{split}.jsonl" for split in splits}
        else:
            raise FileNotFoundError(
                f"no world under {options['root']}/data/world: train stage=audio, or name {what}=FILE"
            )
    return found


def read_clips(path: Path, rate: int, *, lowercase: bool) -> list[Clip]:
    """Clips of a manifest."""
    rows = read_manifest(path, shape="speech")
    return [(read_audio(row["audio"], rate), row["text"].lower() if lowercase else row["text"]) for row in rows]


def glued(clips: list[Clip], *, silence: int) -> list[Clip]:
    """Long recordings of GLUED clips each, with that many samples of silence after each clip."""
    long = []
    for first in range(0, len(clips), GLUED):
        some = clips[first : first + GLUED]
        waveforms = [torch.nn.functional.pad(waveform, (0, silence)) for waveform, _ in some]
        long.append((torch.cat(waveforms), " ".join(text for _, text in some)))
    return long


class Ear:
    """A recognizer with its spectrogram, timed."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.spec = engine, engine.media.require_hearing().mel
        self.audio = engine.require("audio")

    def measure(self, clips: list[Clip], read: CtcDecoder, **windows: float) -> Row:
        """Error rates in percent and the real-time factor, spectrogram and encoder included."""
        transcriber = Transcriber(
            self.audio, hop=self.spec.hop, sample_rate=self.spec.sample_rate, windows=replace(WINDOWS, **windows)
        )
        start, heard = time.perf_counter(), []
        for waveform, _ in clips:
            sound = self.engine.media.hear(waveform)
            heard.append(transcriber(waveform, sound.mel, read, timestamps=False, spans=sound.spans).text)
        seconds = time.perf_counter() - start
        sound = sum(len(waveform) for waveform, _ in clips) / self.spec.sample_rate
        return {**error_rates(heard, [text for _, text in clips]), "rtf": seconds / sound, "clips": len(clips)}


def tune(ear: Ear, clips: list[Clip], lm: NGram, *, beams: int) -> list[Row]:
    """Weights and bonuses of an n-gram over the validation clips, best first."""
    rows = []
    for weight in (0.2, 0.35, 0.5, 0.75, 1.0):
        for bonus in (0.0, 0.5, 1.0, 1.5):
            search = CtcBeamSearch(beams=beams, lm=lm, lm_weight=weight, bonus=bonus)
            rows.append({"weight": weight, "bonus": bonus, **ear.measure(clips, CtcBeamDecoder(search=search))})
    return sorted(rows, key=lambda row: row["wer"] + row["cer"])


def table(rows: list[Row]) -> str:
    """Rows under their keys."""
    cells = [list(rows[0]), *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def main(arguments: list[str]) -> None:
    """Measures, prints and writes the results."""
    options = read_options(arguments, DEFAULTS)
    beams, lowercase = options["beams"], options["lowercase"]
    ear = Ear(load_model(options["ckpt"] or f"{options['root']}/checkpoints/audio", device="cpu"))
    paths = manifests(options)
    texts = [text for path in paths["train"].values() for text in read_texts(path, lowercase=lowercase)]
    characters = train_ngram(texts, order=options["order"], unit="character")
    words = train_ngram(texts, order=3, unit="word")
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "options": options}
    rate = ear.spec.sample_rate
    if options["tune"]:
        for path in paths["val"].values():
            clips = read_clips(path, rate, lowercase=lowercase)
            for name, lm in (("characters", characters), ("words", words)):
                result[f"tune_{name}"] = tune(ear, clips, lm, beams=beams)
                print(
                    f"\n{path.stem}, weights of the n-gram of {name}:\n{table(result[f'tune_{name}'][:8])}", flush=True
                )
    systems: dict[str, CtcDecoder] = {
        "greedy": greedy_decode,
        f"{beams} beams": build_decoder(beams=beams),
        f"{beams} beams, {characters.order}-gram of characters": build_decoder(beams=beams, lm=characters),
        f"{beams} beams, 3-gram of words": build_decoder(beams=beams, lm=words),
    }
    if "thinker" in ear.engine.modules:
        scorer = ThinkerScorer(ear.engine.require_prompter())
        systems[f"{beams} beams, ranked by the Thinker"] = build_decoder(beams=beams, lm=scorer)
    ear.measure([(torch.zeros(rate), "-")], greedy_decode)  # the first call of everything is slow
    for split, path in paths["test"].items():
        clips = read_clips(path, rate, lowercase=lowercase)
        rows: list[Row] = []
        if "clips" in options["what"]:
            rows += [{"system": name, **ear.measure(clips, read)} for name, read in systems.items()]
        for silence in (0.0, 0.5) if "long" in options["what"] else ():
            long = glued(clips, silence=round(silence * rate))
            for name, windows in (("whole", {"length": 1e4, "overlap": 0.0}), ("windows", {})):
                name = f"greedy, {GLUED} clips at a time, {silence} s apart: {name}"
                rows.append({"system": name, **ear.measure(long, greedy_decode, **windows)})
        result[split] = rows
        print(f"\n{split}:\n{table(rows)}", flush=True)
    write_results(options["out"], result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_program(main)
