"""python -m benchmarks.speed.first_sound     seconds to the first sound of a text that is there, and of one that is being written

ckpt=                     an export with a Talker and its codec; default: untrained ones of size=
size=nano                 of those; how long a letter lasts is then 0.7 frames, about as in speech
look_ahead=none,0,8,16    characters; none: whole sentences
rate=20                   tokens a second of the text that is being written, each a word of the sentence below or a half of one
rounds=5                  threads=1
vocoder=griffin_lim       or an export of stage=vocoder
recognizer=               an export of stage=audio: also its CER of what a trained Talker says of manifest= at each look-ahead
manifest=                 default: speech/test.jsonl of the newest world under root=.       clips=100
out=reports/first_sound.json

"first" is counted from the call for a text that is there, and from the first word for one that is being written. "rtf": seconds
of computing for each second of speech, of the whole text.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from benchmarks.quality.recordings import world_files
from benchmarks.results import table, write_results
from benchmarks.stages import compose_config
from datamodules.manifests import read_manifest
from muomni.cli.key_value import read_options, run_program
from muomni.inference.asr.recognizer import Recognizer
from muomni.inference.decoding.timings import Timings
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.metrics.error_rates import error_rates
from muomni.metrics.speech_faults import repeated_share

DEFAULTS = {
    "ckpt": "", "size": "nano", "look_ahead": ("none", "0", "8", "16"), "rate": 20.0, "rounds": 5, "threads": 1, "root": ".",
    "vocoder": "griffin_lim", "recognizer": "", "manifest": "", "clips": 100, "out": "reports/first_sound.json",
}  # fmt: skip
SENTENCE = "the small red circle is on the left of the big blue square and under the green triangle that he likes"
#: To the first sound of a text that is there, at most.
AIM_MS = 150
Row = dict[str, Any]


def untrained(size: str, *, vocoder: str) -> Engine:
    """An engine whose Talker and codec have their initial weights."""
    cfg = compose_config("stage=talker", f"size={size}")
    torch.manual_seed(0)
    mel: Any = OmegaConf.to_container(cfg.codec_mel, resolve=True)
    spec = instantiate(mel).metadata() if "_target_" in mel else mel
    modules = {name: instantiate(cfg.backbone[name]) for name in ("talker", "codec")}
    return Engine(
        modules=modules, metadata={"stage": "talker", "codec_mel": spec}, tokenizer=None, where=f"size={size}, untrained",
        format="auto", device=torch.device("cpu"), vocoder=vocoder,
    )  # fmt: skip


def written(rate: float, began: list[float]) -> Iterator[str]:
    """The sentence in tokens: a word and its space, of long words two halves. began: takes the time of the first word's end."""
    start = time.perf_counter()
    tokens: list[str] = []
    for word in SENTENCE.split():
        tokens += [word[:4], word[4:] + " "] if len(word) > 4 else [word + " "]
    for number, token in enumerate(tokens):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        yield token
        if not began and token.endswith(" "):
            began.append(time.perf_counter())


def first_sound(engine: Engine, look_ahead: int | None, *, rate: float, rounds: int) -> Row:
    """Median milliseconds to the first sound, and the real-time factor."""
    there, typed = [], []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        next(engine.generate_speech_stream(SENTENCE, look_ahead=look_ahead))
        there.append(1000 * (time.perf_counter() - start))
        began: list[float] = []
        next(engine.generate_speech_stream(written(rate, began), look_ahead=look_ahead, patience=None))
        typed.append(1000 * (time.perf_counter() - began[0]))
    timings = Timings()
    for _ in engine.generate_speech_stream(SENTENCE, look_ahead=look_ahead, timings=timings, ended=lambda _: None):
        pass
    return {
        "first_of_a_text_ms": statistics.median(there[1:]), "first_after_the_first_word_ms": statistics.median(typed[1:]),
        "rtf": timings.speech / timings.audio_seconds,
    }  # fmt: skip


def quality(engine: Engine, look_ahead: int | None, recognizer: Recognizer, texts: list[str]) -> Row:
    """CER and words said twice, percent, by the recognizer."""
    said = [engine.require_speaker().in_words(text).text for text in texts]
    sounds = [engine.generate_speech(text, look_ahead=look_ahead) for text in texts]
    transcripts = recognizer(sounds)
    return {"n": len(texts), **error_rates(transcripts, said), "repeated": repeated_share(transcripts, said)}


def main(arguments: list[str]) -> None:
    options = read_options(arguments, DEFAULTS)
    torch.set_num_threads(options["threads"])
    if options["recognizer"] and not options["ckpt"]:
        raise ValueError("recognizer=: only a trained Talker says anything: name it by ckpt=")
    vocoder = options["vocoder"]
    engine = (
        load_model(options["ckpt"], device="cpu", vocoder=vocoder)
        if options["ckpt"]
        else untrained(options["size"], vocoder=vocoder)
    )
    recognizer, texts = None, list[str]()
    if options["recognizer"]:
        recognizer = Recognizer.from_export(options["recognizer"], batch_size=32)
        path = options["manifest"] or world_files(options["root"], "speech/test.jsonl")[0]
        texts = [row["text"] for row in read_manifest(Path(path), shape="speech", split=None)][: options["clips"]]
    rows = []
    for name in options["look_ahead"]:
        look_ahead = None if str(name) == "none" else int(name)
        row = {"look_ahead": name} | first_sound(engine, look_ahead, rate=options["rate"], rounds=options["rounds"])
        rows.append(row if recognizer is None else row | quality(engine, look_ahead, recognizer, texts))
    print(table(rows))
    write_results(options["out"], {"options": options, "where": engine.where, "rows": rows})


if __name__ == "__main__":
    run_program(main)
