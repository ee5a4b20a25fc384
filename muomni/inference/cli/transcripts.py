"""Transcripts on standard output: of a whole recording, or of one that is still being made.

`audio_in=- live=true` takes raw samples, since a recording without an end has no header that is true: 16 bits, little-endian, one
channel, at the encoder's rate.
"""

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from muomni.inference.decoding.timings import Timings
from muomni.inference.engine import Engine
from muomni.inference.errors import InvalidMedia, InvalidOption

PIECE = 0.1  # seconds of a file, or of standard input, at most, that are read at once
HEADERS = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"FORM": "aiff"}


def transcribe(engine: Engine, cfg: dict[str, Any]) -> tuple[str, Timings]:
    """Write the transcript of a recording to standard output; returns it as one text."""
    if cfg["audio_in"] is None:
        raise ValueError("transcribe=true needs audio_in=FILE")
    if cfg["live"]:
        return transcribe_live(engine, cfg)
    options = {name: cfg[name] for name in ("beams", "lm", "lm_weight")}
    form = cfg["transcript"]
    transcript = engine.transcript(cfg["audio_in"], words=cfg["timestamps"] or form != "text", **options)
    print("\n".join(transcript.lines()) if cfg["timestamps"] else transcript.written(form))
    if not transcript.text:
        _notice_no_words(cfg["audio_in"])
    return transcript.text, transcript.timings


def transcribe_live(engine: Engine, cfg: dict[str, Any]) -> tuple[str, Timings]:
    """Write what is said as soon as it is final, a line a turn; returns it as one text."""
    if cfg["beams"] != 1 or cfg["lm"] is not None or cfg["timestamps"] or cfg["transcript"] != "text":
        raise InvalidOption(
            "live=true writes plain greedy text, of which nothing is taken back: leave out beams=, lm=, timestamps= and "
            "transcript=",
            param="live",
        )
    rate = engine.media.require_hearing().mel.sample_rate
    source, timings = cfg["audio_in"], Timings()
    if hasattr(source, "read"):  # how long it was waited for says nothing of the speed
        pieces: Iterator[Any] = raw_pieces(source, rate=rate)
    else:
        waveform = engine.media.waveform(source)
        pieces, timings.transcribed_seconds = iter(waveform.split(round(PIECE * rate))), len(waveform) / rate
    turns = list[str]()
    with timings.span("transcription"):
        written = 0
        for said in engine.transcribe_stream(pieces):
            print(said.text[written:], end="\n" if said.ended and said.text else "", flush=True)
            written = 0 if said.ended else len(said.text)
            turns += [said.text] if said.ended and said.text else []
    if not turns:
        _notice_no_words(source)
    return " ".join(turns), timings


def raw_pieces(file: BinaryIO, *, rate: int) -> Iterator[np.ndarray]:
    """Samples (N,) int16 of an endless file, as they come. Raises InvalidMedia for an audio file, which has a header."""
    size, rest, first = 2 * max(1, round(PIECE * rate)), b"", True
    read = getattr(
        file, "raw", file
    ).read  # what is there, not all of `size`; a buffer's lock would outlive a stalled reader
    while data := read(size):
        data = rest + data
        if first and len(data) < 4:
            rest = data
            continue
        for mark, form in HEADERS.items():
            if first and data.startswith(mark):
                raise InvalidMedia(
                    f"audio_in=-: with live=true raw samples are read, 16 bits, mono, {rate} Hz, not a {form} file: arecord "
                    f"-t raw -f S16_LE -r {rate} -c 1, or ffmpeg -f s16le -ar {rate} -ac 1",
                    param="audio",
                )
        first, whole = False, len(data) // 2 * 2
        yield np.frombuffer(data[:whole], dtype="<i2").astype(np.int16)
        rest = data[whole:]


def _notice_no_words(source: Any) -> None:
    name = source if isinstance(source, str) else "standard input"
    print(f"{name}: no words were recognized", file=sys.stderr, flush=True)
