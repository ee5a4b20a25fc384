"""python -m benchmarks.quality.asr     error rates of a trained recognizer: greedy, beams, language models, long recordings

    root=.                folder of data/world and checkpoints/    ckpt=ROOT/checkpoints/audio
    train= val= test=     manifests of speech; default: those of the newest world under ROOT (test: test and test_voice)
    train_split= val_split= test_split=     rows with that "split" alone, where one manifest holds several
    held_out=NAME,NAME    speakers whose clips alone are measured, and whose texts no language model is trained on
    beams=16              order=6 of the character n-gram           lowercase=true
    tune=false            true: a grid of weights over val first (the defaults in muomni/inference/asr/ctc_decoders.py come of it)
    what=clips,long       single clips, long recordings or both     out=reports/asr.json

Language models are trained on the texts of the training manifest alone. A Thinker in the export ranks beams too.
Long recordings are the clips of a split, GLUED at a time, one after the other: at once, or after half a second of silence.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.recordings import Clip, read_clips, world_files
from benchmarks.results import table, write_results
from datamodules.manifests import read_manifest
from muomni import load_model
from muomni.cli.key_value import read_options, run_program
from muomni.inference.asr.ctc_beam import CtcBeamSearch
from muomni.inference.asr.ctc_decoders import CtcBeamDecoder, CtcDecoder, build_decoder, greedy_decode
from muomni.inference.asr.ngram import NGram, read_texts, train_ngram
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.inference.asr.transcribe import WINDOWS, Transcriber
from muomni.inference.engine import Engine
from muomni.metrics.error_rates import error_rates
from muomni.models.audio import Audio

DEFAULTS = {
    "root": ".", "ckpt": "", "train": "", "val": "", "test": "", "train_split": "", "val_split": "", "test_split": "",
    "held_out": (), "beams": 16, "order": 6, "lowercase": True, "tune": False, "what": ("clips", "long"),
    "out": "reports/asr.json",
}  # fmt: skip
GLUED = 10
Row = dict[str, Any]


def manifests(options: dict[str, Any], name: str, splits: Sequence[str]) -> dict[str, Path]:
    """Manifests by the name of their split: the one that the option `name` names, or the world's."""
    if options[name]:
        return {name: Path(options[name])}
    return {path.stem: path for path in world_files(options["root"], *(f"speech/{split}.jsonl" for split in splits))}


def spoken_by(rows: Sequence[Row], speakers: Sequence[str]) -> list[Row]:
    """The rows of these speakers, or all. Raises ValueError if there are none."""
    found = [row for row in rows if not speakers or str(row.get("speaker")) in speakers]
    if not found:
        raise ValueError(f"held_out={','.join(speakers)}: no clip is of these speakers")
    return found


def training_texts(path: Path, split: str | None, held_out: Sequence[str], *, lowercase: bool) -> Iterable[str]:
    """The texts that a language model may know: of a text file or a manifest, without those of the speakers held out."""
    if not held_out:
        return read_texts(path, lowercase=lowercase, split=split)
    rows = read_manifest(path, shape="speech", split=split)
    texts = [str(row["text"]) for row in rows if str(row.get("speaker")) not in held_out]
    return [text.lower() if lowercase else text for text in texts]


def glued(clips: list[Clip], *, silence: int) -> list[Clip]:
    """Long recordings of GLUED clips each, with that many samples of silence after each clip."""
    long = []
    for first in range(0, len(clips), GLUED):
        some = clips[first : first + GLUED]
        waveforms = [torch.nn.functional.pad(waveform, (0, silence)) for waveform, _ in some]
        long.append((torch.cat(waveforms), " ".join(text for _, text in some)))
    return long


def measure(engine: Engine, clips: list[Clip], read: CtcDecoder, **windows: float) -> Row:
    """Error rates in percent and the real-time factor, spectrogram and encoder included."""
    encoder, spec = engine.require("audio"), engine.media.require_hearing().mel
    assert isinstance(encoder, Audio)
    transcriber = Transcriber(encoder, hop=spec.hop, sample_rate=spec.sample_rate, windows=replace(WINDOWS, **windows))
    start, texts = time.perf_counter(), []
    for waveform, _ in clips:
        heard = engine.media.hear(waveform)
        texts.append(transcriber(waveform, heard.mel, read, timestamps=False, spans=heard.spans).text)
    seconds = time.perf_counter() - start
    audio_seconds = sum(len(waveform) for waveform, _ in clips) / spec.sample_rate
    rates = error_rates(texts, [text for _, text in clips])
    return {**rates, "rtf": seconds / audio_seconds, "clips": len(clips)}


def tune(engine: Engine, clips: list[Clip], lm: NGram, *, beams: int) -> list[Row]:
    """Weights and bonuses of an n-gram over the validation clips, best first."""
    rows = []
    for weight, bonus in itertools.product((0.2, 0.35, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0, 1.5)):
        search = CtcBeamSearch(beams=beams, lm=lm, lm_weight=weight, bonus=bonus)
        rows.append({"weight": weight, "bonus": bonus, **measure(engine, clips, CtcBeamDecoder(search=search))})
    return sorted(rows, key=lambda row: row["wer"] + row["cer"])


def main(arguments: list[str]) -> None:
    options = read_options(arguments, DEFAULTS)
    beams, lowercase = options["beams"], options["lowercase"]
    engine = load_model(options["ckpt"] or f"{options['root']}/checkpoints/audio", device="cpu")
    rate = engine.media.require_hearing().mel.sample_rate

    def clips_of(path: Path, name: str) -> list[Clip]:
        rows = read_manifest(path, shape="speech", split=options[f"{name}_split"] or None)
        return read_clips(spoken_by(rows, options["held_out"]), rate, lowercase=lowercase)

    train, split = manifests(options, "train", ["train"]).values(), options["train_split"] or None
    texts = [text for path in train for text in training_texts(path, split, options["held_out"], lowercase=lowercase)]
    characters = train_ngram(texts, order=options["order"], unit="character")
    words = train_ngram(texts, order=3, unit="word")
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "options": options}
    for path in manifests(options, "val", ["val"]).values() if options["tune"] else ():
        for name, lm in (("characters", characters), ("words", words)):
            result[f"tune_{name}"] = rows = tune(engine, clips_of(path, "val"), lm, beams=beams)
            print(f"\n{path.stem}, weights of the n-gram of {name}:\n{table(rows[:8])}", flush=True)
    systems: dict[str, CtcDecoder] = {
        "greedy": greedy_decode,
        f"{beams} beams": build_decoder(beams=beams),
        f"{beams} beams, {characters.order}-gram of characters": build_decoder(beams=beams, lm=characters),
        f"{beams} beams, 3-gram of words": build_decoder(beams=beams, lm=words),
    }
    if "thinker" in engine.modules:
        scorer = ThinkerScorer(engine.require_prompter())
        systems[f"{beams} beams, ranked by the Thinker"] = build_decoder(beams=beams, lm=scorer)
    measure(engine, [(torch.zeros(rate), "-")], greedy_decode)  # the first call of everything is slow
    for split, path in manifests(options, "test", ["test", "test_voice"]).items():
        clips, rows = clips_of(path, "test"), []
        if "clips" in options["what"]:
            rows += [{"system": name, **measure(engine, clips, read)} for name, read in systems.items()]
        for silence in (0.0, 0.5) if "long" in options["what"] else ():
            long = glued(clips, silence=round(silence * rate))
            for name, windows in (("whole", {"length": 1e4, "overlap": 0.0}), ("windows", {})):
                name = f"greedy, {GLUED} clips at a time, {silence} s apart: {name}"
                rows.append({"system": name, **measure(engine, long, greedy_decode, **windows)})
        result[split] = rows
        print(f"\n{split}:\n{table(rows)}", flush=True)
    write_results(options["out"], result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_program(main)
