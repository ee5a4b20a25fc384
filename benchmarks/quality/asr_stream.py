"""python -m benchmarks.quality.asr_stream     a recognizer while somebody speaks: error rates against offline, and latency

    root=.                folder of data/world and checkpoints/    ckpt=ROOT/checkpoints/audio, best of audio_encoder=streaming
    offline=              another export, whose offline transcripts are compared with: of the same recipe without chunks
    test=                 a manifest of speech; default: test of the newest world under ROOT
    test_split=           rows with that "split" alone             held_out=NAME,NAME   speakers whose clips alone are measured
    clips=0               the first so many; 0: all                lowercase=true
    piece=20              milliseconds of a piece                  threads=1          out=reports/asr_stream.json

Offline is `transcribe` of each whole clip; streamed is `transcribe_stream` of its pieces, as one turn, and with the energy gate,
a second of digital silence after each clip. Error rates in percent, and points above offline (of `offline=` where it is given).
Milliseconds: `latency` is how long the first sound of a chunk waits for the last sound that its text depends on, `compute` what
a step then takes (95 % take less), `final` their sum; `rtf`: seconds of computing for a second of sound. turns: found a clip.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.asr import spoken_by
from benchmarks.quality.recordings import Clip, read_clips, world_files
from benchmarks.results import table, write_results
from datamodules.manifests import read_manifest
from muomni import load_model
from muomni.cli.key_value import read_options, run_program
from muomni.inference.asr.live import LiveOptions, LiveTranscriber
from muomni.inference.asr.live_reader import live_reader, reads_in_chunks
from muomni.inference.engine import Engine
from muomni.metrics.error_rates import error_rates
from muomni.models.encoders import AudioEncoder

DEFAULTS = {
    "root": ".", "ckpt": "", "offline": "", "test": "", "test_split": "", "held_out": (), "clips": 0, "lowercase": True,
    "piece": 20, "threads": 1, "out": "reports/asr_stream.json",
}  # fmt: skip
SILENCE = 1.0  # seconds after a clip, so that its turn ends
Row = dict[str, Any]


def read_test(options: dict[str, Any], rate: int) -> list[Clip]:
    """The clips that are measured. Raises ValueError where none is left."""
    path = Path(options["test"]) if options["test"] else world_files(options["root"], "speech/test.jsonl")[0]
    rows = spoken_by(read_manifest(path, shape="speech", split=options["test_split"] or None), options["held_out"])
    return read_clips(rows[: options["clips"] or None], rate, lowercase=options["lowercase"])


def offline(engine: Engine, clips: Sequence[Clip]) -> Row:
    """Error rates of whole clips."""
    begin = time.perf_counter()
    texts = [engine.transcribe(waveform) for waveform, _ in clips]
    seconds = time.perf_counter() - begin
    rate = engine.media.require_hearing().mel.sample_rate
    return {**error_rates(texts, [text for _, text in clips]), "rtf": seconds * rate / total_samples(clips)}


def total_samples(clips: Sequence[Clip]) -> int:
    return sum(len(waveform) for waveform, _ in clips)


def streamed(engine: Engine, clips: Sequence[Clip], *, vad: str | None, piece: int) -> Row:
    """Error rates and latency of clips in pieces of so many samples."""
    encoder, hearing = cast(AudioEncoder, engine.require("audio")), engine.media.require_hearing()
    rate, texts, took, turns, seconds = hearing.mel.sample_rate, [], [], 0, 0.0
    for waveform, _ in clips:
        live = LiveTranscriber(encoder, hearing, LiveOptions(vad=vad))
        silence = torch.zeros(round(SILENCE * rate) if vad else 0)
        said = []
        for spent, transcripts in timed(live, torch.cat([waveform, silence]).split(piece)):
            seconds += spent
            took += [spent] if transcripts else []
            said += [each.text for each in transcripts if each.ended]
        turns += len(said)
        texts.append(" ".join(said))
    latency = 1000 * live_reader(encoder, hearing).latency
    compute = 1000 * float(np.percentile(took, 95)) if took else None
    return {
        **error_rates(texts, [text for _, text in clips]), "rtf": seconds * rate / total_samples(clips), "latency": latency,
        "compute": compute, "final": None if compute is None else latency + compute, "turns": turns / len(clips),
    }  # fmt: skip


def timed(live: LiveTranscriber, pieces: Sequence[Tensor]) -> Iterator[tuple[float, list[Any]]]:
    """Seconds and transcripts of each piece, and of the end."""
    for number in range(len(pieces) + 1):
        begin = time.perf_counter()
        transcripts = list(live.push(pieces[number]) if number < len(pieces) else live.close())
        yield time.perf_counter() - begin, transcripts


def main(arguments: list[str]) -> None:
    options = read_options(arguments, DEFAULTS)
    torch.set_num_threads(options["threads"])
    engine = load_model(options["ckpt"] or f"{options['root']}/checkpoints/audio", device="cpu")
    rate = engine.media.require_hearing().mel.sample_rate
    clips, piece = read_test(options, rate), max(1, round(options["piece"] * rate / 1000))
    how = "by chunks" if reads_in_chunks(cast(AudioEncoder, engine.require("audio"))) else "by windows, read again"
    streamed(engine, [(torch.randn(2 * rate), "-")], vad=None, piece=piece)  # the first call of everything is slow
    empty = {"cer": 0.0, "wer": 0.0, "rtf": 0.0, "latency": None, "compute": None, "final": None, "turns": None}
    rows = [{"system": "offline", **empty, **offline(engine, clips)}]
    if options["offline"]:
        other = load_model(options["offline"], device="cpu")
        rows.insert(0, {"system": f"offline, {options['offline']}", **empty, **offline(other, clips)})
    rows.append({"system": f"streamed {how}, a turn a clip", **streamed(engine, clips, vad=None, piece=piece)})
    rows.append({"system": f"streamed {how}, energy gate", **streamed(engine, clips, vad="energy", piece=piece)})
    for row in rows:
        row["above"] = row["wer"] - rows[0]["wer"]
    print(f"\n{len(clips)} clips, {total_samples(clips) / rate:.0f} s, pieces of {options['piece']} ms:\n{table(rows)}")
    write_results(options["out"], {"options": options, "clips": len(clips), "rows": rows})


if __name__ == "__main__":
    run_program(main)
