"""python -m benchmarks.quality.vocoder     vocoders on the same recordings: Griffin-Lim, and the correction of mels
(muomni/inference/tts/mel_correction.py) from a start of noise and from a trained vocoder, by its number of iterations.

Compared, these say how much of the gain over Griffin-Lim is the network's, and how much the correction's. Distances
of log-mels are in standard deviations at equal level; STOI is against the recording; times are of one thread a second of sound.

    manifest=FILE  split=dev  clips=20   recordings; the shortest so many of them
    vocoder=checkpoints/vocoder          an export of stage=vocoder; without it noise alone
    out=FILE                             the numbers as JSON, default reports/benchmarks/vocoder.json
"""

import itertools
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.results import table, write_results
from datamodules.manifests import read_manifest
from muomni.checkpoints.export import load_export
from muomni.cli.key_value import read_options, run_program
from muomni.frontends.audio_io import read_audio
from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.mel_correction import MelCorrection
from muomni.metrics.sound import match_level, stoi

SPEC = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=128, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
OWN = {"vocoder": "", "manifest": "", "split": "", "clips": 20, "out": "reports/benchmarks/vocoder.json"}
ITERATIONS = (0, 2, 8, 16, 32)
Make = Callable[[Tensor], Tensor]


def noise(mel: Tensor) -> Tensor:
    """(T, M) -> the same white noise for every call (N)."""
    return 0.01 * torch.randn(len(mel) * SPEC.hop, generator=torch.Generator().manual_seed(0))


def makers(vocoder: str) -> dict[str, Make]:
    """What is compared, by name: mel (T, M) -> waveform (N)."""
    correction = MelCorrection(SPEC)
    starts: dict[str, Make] = {"noise": noise}
    if vocoder:
        export = load_export(vocoder, ["vocoder"])
        if export.metadata["codec_mel"] != SPEC.metadata():
            raise SystemExit(f"{vocoder}: trained on another spectrogram than conf/mel/hop160.yaml")
        starts["vocoder"] = lambda mel: export.modules["vocoder"](mel[None]).waveform[0]
    found: dict[str, Make] = {"Griffin-Lim, 32": GriffinLim(SPEC, iterations=32)}
    for (name, start), count in itertools.product(starts.items(), ITERATIONS):
        found[f"{name} + correction, {count}"] = partial(corrected, correction, start, count)
    return found


def corrected(correction: MelCorrection, start: Make, iterations: int, mel: Tensor) -> Tensor:
    """Mel (T, M) -> waveform (N) from a start, corrected."""
    return correction(start(mel)[None], mel[None], iterations=iterations)[0]


def measure(make: Make, clips: list[Tensor]) -> dict[str, float]:
    """Means over the clips."""
    frontend = LogMel(SPEC)
    distances, scores, seconds = [], [], 0.0
    for clip in clips:
        mel = frontend(clip)
        began = time.process_time()
        made = make(mel)
        seconds += time.process_time() - began
        made = match_level(made, clip)
        distances.append(float((frontend(made) - mel).abs().mean()))
        score = stoi(made, clip, sample_rate=SPEC.sample_rate)
        scores += [] if score is None else [score]
    sound = sum(len(clip) for clip in clips) / SPEC.sample_rate
    return {
        "log_mel_distance": sum(distances) / len(distances),
        "stoi": sum(scores) / max(1, len(scores)),
        "real_time_factor": seconds / sound,
    }


@torch.inference_mode()
def main(arguments: list[str]) -> None:
    options = read_options(arguments, OWN)
    if not options["manifest"]:
        raise ValueError("manifest=FILE is needed")
    torch.set_num_threads(1)
    rows = read_manifest(options["manifest"], shape="speech", split=options["split"] or None)
    rows = sorted(rows, key=lambda row: row.get("seconds", 0.0))[: options["clips"]]
    clips = [read_audio(row["audio"], SPEC.sample_rate) for row in rows]
    clips = [clip[: len(clip) // SPEC.hop * SPEC.hop] for clip in clips]
    print(f"{len(clips)} clips, {sum(len(clip) for clip in clips) / SPEC.sample_rate:.0f} s")
    results = {name: measure(make, clips) for name, make in makers(options["vocoder"]).items()}
    print(table([{"vocoder": name, **row} for name, row in results.items()]))
    write_results(options["out"], {"results": results})


if __name__ == "__main__":
    run_program(main)
