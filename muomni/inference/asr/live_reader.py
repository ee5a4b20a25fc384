"""Log-probabilities of an utterance while its sound arrives, by an encoder of chunks or by any other one.

`ChunkReader` computes each chunk once, with the state of those before (models/audio_stream.py). An encoder without chunks wants
the whole: `WindowReader` reads the last seconds again at each step, and settles the frames that have heard enough after them.
Steps are counted from the utterance's begin, so how samples come does not matter.

Legend: N samples, T' encoder frames, S symbols.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor

from muomni.frontends.hearing import Hearing
from muomni.frontends.live_hearing import LiveHearing
from muomni.inference.asr.long_audio import blank_log_probs, whole_frames
from muomni.models.audio import Audio
from muomni.models.audio_stream import AudioStream
from muomni.models.encoders import AudioEncoder

WINDOW, STEP, LOOK_AHEAD = 8.0, 0.4, 0.8  # seconds, of an encoder without chunks


class Reading(NamedTuple):
    """settled (T', S): logits of the frames after those of the reading before, final; open (T', S): of the frames after them, as
    far as they are known."""

    settled: Tensor
    open: Tensor


class LiveReader(Protocol):
    """Logits of one utterance. latency: seconds after which a sound is in a settled frame, computing not counted."""

    latency: float

    def push(self, samples: Tensor) -> Iterator[Reading]:
        """samples (N) at the encoder's rate -> a reading for each step that they complete."""
        ...

    def close(self) -> Reading:
        """What is left at the end."""
        ...


class ChunkReader:
    """Of an encoder that was trained with chunks."""

    def __init__(self, audio: Audio, hearing: Hearing) -> None:
        self.stream, self.hearing = AudioStream(audio), LiveHearing(hearing)
        frames = self.stream.chunks.block * audio.downsample
        self.latency = (frames * hearing.mel.hop + hearing.mel.win / 2) / hearing.mel.sample_rate

    def push(self, samples: Tensor) -> Iterator[Reading]:
        """See `LiveReader`."""
        self.hearing.push(samples)
        while self.hearing.has(frames := self.stream.next_frames):
            logits = self.stream.step(self.hearing.take(frames))
            yield Reading(logits.settled.cpu(), logits.open.cpu())

    def close(self) -> Reading:
        """See `LiveReader`."""
        logits = self.stream.close(self.hearing.rest())
        return Reading(logits.settled.cpu(), logits.open.cpu())


class WindowReader:
    """Of any encoder: the last `WINDOW` seconds are read every `STEP`, and what is `LOOK_AHEAD` from their end is settled."""

    def __init__(self, audio: AudioEncoder, hearing: Hearing) -> None:
        self.audio, self.hearing = audio, hearing
        spec = hearing.mel
        self.hop = spec.hop * audio.downsample  # samples of an encoder frame
        self.window, self.step, self.ahead = (
            max(1, round(seconds * spec.sample_rate / self.hop)) for seconds in (WINDOW, STEP, LOOK_AHEAD)
        )  # encoder frames
        self.latency = (self.step + self.ahead) * self.hop / spec.sample_rate
        self.samples = torch.zeros(0)  # from encoder frame `first` on
        self.first = self.settled = 0
        self.steps = 0

    def push(self, samples: Tensor) -> Iterator[Reading]:
        """See `LiveReader`."""
        self.samples = torch.cat([self.samples, samples.float()])
        while self.first * self.hop + len(self.samples) >= (end := (self.steps + 1) * self.step) * self.hop:
            self.steps += 1
            begin = max(0, end - self.window)
            self.samples, self.first = self.samples[(begin - self.first) * self.hop :].clone(), begin
            yield self._read(self.samples[: (end - begin) * self.hop], until=end - self.ahead)

    def close(self) -> Reading:
        """See `LiveReader`."""
        return self._read(self.samples, until=None)

    def _read(self, samples: Tensor, *, until: int | None) -> Reading:
        """Read a window from frame `first` on; until: the frame up to which it is settled, None: all of it."""
        logits = self._logits(samples)
        end = len(logits) if until is None else max(0, until - self.first)
        done = self.settled - self.first
        self.settled = max(self.settled, self.first + end)
        return Reading(logits[done:end], logits[max(done, end) :])

    def _logits(self, samples: Tensor) -> Tensor:
        """samples (N) -> (T', S), silence where nothing is said."""
        if len(samples) < self.hearing.mel.shortest:
            return torch.zeros(0, self.audio.num_symbols)
        heard = self.hearing(samples)
        device = next(self.audio.parameters()).device
        logits = self.audio(heard.mel[None].to(device)).logits[0].float().cpu()
        R, silent = self.audio.downsample, torch.ones(len(logits), dtype=torch.bool)
        for begin, end in whole_frames(heard.spans, R, len(heard.mel)):
            silent[begin // R : -(-end // R)] = False
        logits[silent] = blank_log_probs(1, self.audio.num_symbols)
        return logits


def reads_in_chunks(audio: AudioEncoder) -> TypeGuard[Audio]:
    """Whether the encoder was trained with chunks."""
    return isinstance(audio, Audio) and audio.encoder.chunks is not None


def live_reader(audio: AudioEncoder, hearing: Hearing) -> LiveReader:
    """The reader of an utterance."""
    return ChunkReader(audio, hearing) if reads_in_chunks(audio) else WindowReader(audio, hearing)
