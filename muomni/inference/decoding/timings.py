"""Time and token counts of generation, fill of the cache, and the lines that report them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WARNING, CRITICAL = 0.75, 0.90


@dataclass(slots=True)
class Timings:
    """Seconds and counts of one answer. `head` is the share of `model` spent in the output head."""

    prompt_tokens: int = 0
    prefill: float = 0.0
    new_tokens: int = 0
    text_cut: bool = False  # the answer ended at a limit, not at its end token
    model: float = 0.0
    head: float = 0.0
    sampling: float = 0.0
    frames: int = 0
    speech_cut: bool = False  # an utterance ended at its frame limit, not at its stop
    speech: float = 0.0
    first_audio: float = 0.0
    audio_seconds: float = 0.0
    transcribed_seconds: float = 0.0  # of audio
    transcription: float = 0.0
    vocoder: str = ""

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the field `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - start)

    def cut_note(self) -> str:
        """Suffix for the line that names a spoken file."""
        return f", cut off after {self.frames} frames: speak shorter texts" if self.speech_cut else ""

    def lines(self) -> list[str]:
        """The statistics, a line for each task that was done."""
        shown: list[str] = []
        if self.prompt_tokens:
            rate = self.prompt_tokens / max(self.prefill, 1e-9)
            shown.append(f"prompt: {self.prompt_tokens} tokens, {1000 * self.prefill:.1f} ms, {rate:.1f} tokens/s")
        if self.new_tokens:
            total = self.model + self.sampling
            head = f"lm-head {1000 * self.head:.1f} ms, " if self.head else ""  # unknown inside a compiled step
            cut = ", cut off by max_new_tokens or a full context" if self.text_cut else ""
            shown.append(
                f"generated: {self.new_tokens} tokens{cut}, model {1000 * self.model:.1f} ms "
                f"({1000 * self.model / self.new_tokens:.2f} ms/token), {head}"
                f"sampling {1000 * self.sampling:.1f} ms, total {1000 * total:.1f} ms, "
                f"{self.new_tokens / max(total, 1e-9):.1f} tokens/s"
            )
        if self.transcribed_seconds:
            factor = self.transcription / self.transcribed_seconds
            shown.append(
                f"transcribed: {self.transcribed_seconds:.2f} s of audio, {1000 * self.transcription:.1f} ms, "
                f"real-time factor {factor:.3f}"
            )
        if self.frames:
            shown.append(
                f"speech: {self.frames} frames, {self.audio_seconds:.2f} s of audio, "
                f"real-time factor {self.speech / max(self.audio_seconds, 1e-9):.3f}, "
                f"first audio after {1000 * self.first_audio:.1f} ms, vocoder {self.vocoder or 'none'}"
            )
        return shown


def cache_lines(position: int, capacity: int) -> list[str]:
    """Fill of a cache: [OK] below 75 %, [WARNING] to 90 %, [CRITICAL] above."""
    share = position / capacity
    state = "OK" if share < WARNING else "WARNING" if share <= CRITICAL else "CRITICAL"
    return [
        "KV Cache usage:",
        f"  Position: {position} / {capacity} ({100 * share:.1f}%) [{state}]",
        f"  Remaining capacity: {capacity - position} tokens",
    ]
