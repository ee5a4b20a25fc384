"""Audio that is cut off: clips end in the middle of a sound, and their texts go on.

Speech fades before a clip ends, also where clips are trimmed tightly: in 1 of 100 clips or fewer the last 30 ms are louder than
the clip's median, in the world, FSDD, AN4 and LJSpeech alike; among the few dozen words of the smallest world up to 11 of 100.
Where clips are cut to half their length it is about every second one. Windows of a longer recording begin in the middle of a
sound as well, and are no fault.

Legend: B clips, T frames, M mel bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from callbacks.symptoms.base import Symptom
from muomni.batch import OmniBatch, SpeechBatch
from muomni.frontends.audio_io import read_audio
from muomni.frontends.memory_file import Media

RATE = 16000
FRAME = 160  # samples: 10 ms
EDGE = 3  # frames at each end whose level counts
FEWEST = 12  # frames of a clip that is judged
FILES = 8  # recordings read in an examined step
LONGEST = 4  # clips of exactly the greatest length, from which it is suspected to be a limit
WINDOWS = 0.4  # share of clips that begin loudly, from which they are windows


@dataclass
class Tally:
    """Clips of one source: of each its length, and whether it begins and ends loudly."""

    lengths: list[float] = field(default_factory=list)
    begins: list[bool] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of those that end loudly."""

    def add(self, length: float, begins: bool, ends: bool, name: str) -> None:
        self.lengths.append(length)
        self.begins.append(begins)
        self.ends.append(ends)
        if ends:
            self.names.append(name)

    def cut(self, share: float, clips: int) -> str | None:
        """How many are cut off, in words, if more than `share` of at least `clips`, or a quarter of the longest."""
        count = len(self.ends)
        if count < clips or sum(self.begins) > WINDOWS * count:
            return None
        longest = max(self.lengths)
        at_limit = [end for length, end in zip(self.lengths, self.ends, strict=True) if length == longest]
        limited = LONGEST <= len(at_limit) < count and sum(at_limit) > max(2, len(at_limit) / 4)
        if sum(self.ends) <= share * count and not limited:
            return None
        limit = f"; {len(at_limit)} last exactly {longest:.2f} s" if len(at_limit) >= LONGEST else ""
        return f"{sum(self.ends)} of {count} end in the middle of a sound{limit} (such as {', '.join(self.names[:2])})"


@dataclass(kw_only=True)
class CutAudio(Symptom):
    """Recordings on disk, or the clips of batches, are cut off.

    share: of recordings that end loudly, above which it is a finding; masked_share: of clips in batches, where masks and
    simulated noise hide some ends. clips: of each that are examined before; `most` are at most.
    """

    share: float
    masked_share: float
    clips: int
    most: int
    _recordings: Tally = field(default_factory=Tally, init=False)
    _batches: Tally = field(default_factory=Tally, init=False)
    _read: set[Media] = field(default_factory=set, init=False)

    def finding(self, stage: Any, batch: Any) -> str | None:
        media: Sequence[Media] = getattr(batch, "audio", None) or getattr(batch, "audio_keys", None) or ()
        if len(self._recordings.ends) < self.most:
            self._read_files([each for each in dict.fromkeys(media) if each not in self._read][:FILES])
        if isinstance(batch, SpeechBatch | OmniBatch) and batch.mel is not None and len(self._batches.ends) < self.most:
            self._look_at_mels(batch.mel, batch.mel_lengths, [str(each) for each in media], _frame_rate(stage))
        sources = (
            ("recordings", self._recordings, self.share),
            ("clips as they reach the model", self._batches, self.masked_share),
        )
        for what, tally, share in sources:
            cut = tally.cut(share, self.clips)
            if cut:
                return (
                    f"audio is cut off: of the {what}, {cut}, while their texts go on. Look at what cut them, listen to some, "
                    "and leave long clips out (datamodule.max_seconds) instead of cutting them"
                )
        return None

    def _read_files(self, media: Sequence[Media]) -> None:
        """One that cannot be read is named where training reads it."""
        for each in media:
            self._read.add(each)
            try:
                waveform = read_audio(each, RATE)
            except (OSError, ValueError):
                continue
            frames = waveform[: len(waveform) // FRAME * FRAME].view(-1, FRAME)
            if len(frames) >= FEWEST:
                begins, ends = _loud_edges(frames.square().mean(dim=1))
                self._recordings.add(len(waveform) / RATE, begins, ends, str(each))

    def _look_at_mels(self, mel: Tensor, lengths: Tensor | None, names: Sequence[str], rate: float) -> None:
        """mel (B, T, M). A frame without any pattern is masked or padded, and says nothing."""
        assert lengths is not None
        levels, flat = torch.stack([mel.mean(-1), mel.std(-1)]).float().cpu()
        for row, length in enumerate(lengths.tolist()):
            masked = flat[row, max(0, length - EDGE) : length].min() < 1e-3
            if length >= FEWEST and not masked:
                begins, ends = _loud_edges(levels[row, :length])
                self._batches.add(length / rate, begins, ends, names[row] if row < len(names) else str(row))


def _loud_edges(levels: Tensor) -> tuple[bool, bool]:
    """levels (T) -> whether the first and the last frames are louder than half of them."""
    median = levels.median()
    return bool(levels[:EDGE].mean() > median), bool(levels[-EDGE:].mean() > median)


def _frame_rate(stage: Any) -> float:
    mel = stage.metadata.get("mel") or stage.metadata.get("codec_mel") or {}
    return mel["sample_rate"] / mel["hop"] if {"sample_rate", "hop"} <= set(mel) else 100.0
