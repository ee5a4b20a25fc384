"""Speech: who says what, and the files. Ten voices, the last two held out; voice 0 is the narrator.

N samples at 16 kHz, int16. The narrator always speaks alike (one voice for the Talker to learn); the others vary a
little in pitch and rate from utterance to utterance.
"""

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from datamodules.world.espeak import Voice, speak
from datamodules.world.files import Row
from datamodules.world.rng import item_rng
from datamodules.world.sentences import NARRATOR_SHARES, UTTERANCE_SHARES, Sentences, engine_text
from datamodules.world.spec import WorldSpec

SAMPLE_RATE = 16_000
ENGINE_RATE = 22_050
UP, DOWN = 320, 441  # 22 050 Hz * 320 / 441 = 16 000 Hz
TAPER_FROM = 7_600  # Hz: the band edge is faded out up to 8 kHz
HELD_OUT_SPEAKERS = 2
NARRATOR = 0
VOICES = tuple(Voice(*numbers) for numbers in (
    ("en-us", "m3", 45, 50, 165), ("en", "f2", 58, 50, 165), ("en-us", "m1", 35, 45, 155), ("en-us", "f4", 62, 55, 175),
    ("en", "m7", 42, 50, 170), ("en-us", "f1", 52, 60, 160), ("en", "m4", 50, 40, 175), ("en-us", "f3", 68, 45, 165),
    ("en-us", "m2", 40, 55, 170), ("en", "f5", 55, 50, 160),
))  # fmt: skip
HELD_OUT = tuple(range(len(VOICES)))[-HELD_OUT_SPEAKERS:]  # the voices that no training item has
JITTER_PITCH, JITTER_RATE = 4, 10


def voice_of(speaker: int, rng: random.Random | None = None) -> Voice:
    """The voice of a speaker; with a generator, pitch and rate vary a little (never the narrator's)."""
    voice = VOICES[speaker]
    if rng is None or speaker == NARRATOR:
        return voice
    pitch, rate = rng.randint(-JITTER_PITCH, JITTER_PITCH), rng.randint(-JITTER_RATE, JITTER_RATE)
    return voice._replace(pitch=voice.pitch + pitch, rate=voice.rate + rate)


def speakers_of(spec: WorldSpec, split: str) -> Sequence[int]:
    """The voices of a split: the held-out ones for test_voice, else those of training."""
    return HELD_OUT if split == "test_voice" else range(spec.speakers - HELD_OUT_SPEAKERS)


def resample(samples: np.ndarray) -> np.ndarray:
    """int16 (N,) at 22.05 kHz -> int16 (floor(N * 320 / 441),) at 16 kHz, in the frequency domain (ends are silent)."""
    blocks = -(-(len(samples) + DOWN) // DOWN)  # at least a block of silence after it, against wrap-around
    blocks += blocks % 2
    spectrum = np.fft.rfft(samples.astype(np.float64), blocks * DOWN)[: blocks * UP // 2 + 1]
    frequencies = np.arange(len(spectrum)) * (SAMPLE_RATE / 2) / (len(spectrum) - 1)
    fade = np.clip((SAMPLE_RATE / 2 - frequencies) / (SAMPLE_RATE / 2 - TAPER_FROM), 0, 1)
    waveform = np.fft.irfft(spectrum * fade, blocks * UP) * (UP / DOWN)
    return np.clip(np.rint(waveform[: len(samples) * UP // DOWN]), -32768, 32767).astype(np.int16)


def say(text: str, voice: Voice, path: Path) -> float:
    """Speak a text to a FLAC file at 16 kHz; returns its seconds."""
    samples, rate = speak(text, voice)
    if rate != ENGINE_RATE:
        raise RuntimeError(f"world: espeak-ng speaks at {rate} Hz, not {ENGINE_RATE}")
    waveform = resample(samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = io.BytesIO()  # soundfile would sync each file to the disk
    soundfile.write(encoded, waveform, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    path.write_bytes(encoded.getvalue())
    return round(len(waveform) / SAMPLE_RATE, 4)


def speech_path(stream: str, index: int) -> str:
    """Path of utterance `index` of a stream, relative to the manifest's folder."""
    return f"audio/{stream}/{index // 1000:03d}/{index:06d}.flac"


class SpeechWorld(Sentences):
    """The utterances of one world."""

    def utterance(self, stream: str, index: int) -> tuple[str, str, int]:
        """(kind, text, speaker) of utterance `index`; half of val and test is the narrator saying sentences."""
        narrator = stream == "narrator" or (stream in ("val", "test") and index % 2 == 0)
        shares = NARRATOR_SHARES if stream == "narrator" else {"sentence": 1.0} if narrator else UTTERANCE_SHARES
        split = "train" if stream == "narrator" else stream
        kind, text = self.draw(split, stream, index, shares)
        if narrator:
            return kind, text, NARRATOR
        speakers = speakers_of(self.spec, stream)
        if stream in ("val", "test"):
            speakers = speakers[NARRATOR + 1 :] or speakers
        return kind, text, item_rng(self.spec.seed, stream, "speaker", index).choice(speakers)


def write(spec: WorldSpec, folder: Path, split: str, start: int, stop: int) -> list[Row]:
    """Speak the utterances start..stop of a stream under `folder` and return their manifest rows."""
    world = SpeechWorld(spec)
    rows = []
    for index in range(start, stop):
        kind, text, speaker = world.utterance(split, index)
        path = speech_path(split, index)
        voice = voice_of(speaker, item_rng(spec.seed, split, "jitter", index))
        seconds = say(engine_text(text, kind), voice, folder / path)
        rows.append({"id": f"speech-{split}-{index}", "audio": path, "text": text, "speaker": speaker, "kind": kind,
                     "seconds": seconds, "sample_rate": SAMPLE_RATE,
                     "split": "train" if split == "narrator" else split})  # fmt: skip
    return rows
