"""Clips of a manifest, augmented where they are drawn for training.

Legend: T frames, M mel bins, C characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from datamodules.augment import MelAugment
from datamodules.conditions import AcousticSimulator
from datamodules.lazy_media import LazyMels
from datamodules.manifests import RowSet
from datamodules.media import Media
from datamodules.mel_cache import MelCache
from datamodules.same_speaker import SameSpeaker, speaker_of
from datamodules.spec_augment import SpecAugment
from datamodules.waveform_augment import WaveformAugmenter
from datamodules.waveform_cache import WaveformCache
from muomni.frontends.char_vocab import encode_characters
from muomni.frontends.hearing import Hearing

VIEWS, WAVEFORM, REFERENCE = 1, 2, 3  # streams of draws of their own: they do not change what else is drawn of a clip


@dataclass(slots=True)
class SpeechSample:
    """mel (T, M) float32; characters (C) int64; text as it was encoded; audio: the recording. Of the mel, `lead`
    frames at the front and `trail` at the end are silence that a batch may leave out. other_view: of the same frames.
    reference: another clip of the speaker, as it is."""

    mel: np.ndarray
    characters: np.ndarray
    speaker: int
    text: str
    audio: Media
    sample_id: str
    lead: int = 0
    trail: int = 0
    other_view: np.ndarray | None = None
    reference: "SpeechSample | None" = None


@dataclass(frozen=True, eq=False)
class AugmentedClips:
    """Callable: index of a row, generator -> the log-mel (T, M) of the augmented recording, None where nothing was drawn."""

    waveforms: WaveformCache
    augment: WaveformAugmenter
    prepare: Hearing

    def __call__(self, index: int, rng: np.random.Generator) -> np.ndarray | None:
        return self.augment.mel(self.waveforms[index], self.prepare, rng)


@dataclass(eq=False)
class SpeechSet(RowSet):
    """Clips of a manifest.

    Args:
        rows: the manifest's, with "audio" and "text". mels: theirs. characters: the model's own. speakers: name -> number.
        recordings, augment, simulate, spec_augment: of the drawn items, in this order, None for none. seed: of all.
        references: each item brings another clip of its speaker.
    """

    mels: MelCache | LazyMels
    characters: str | None
    speakers: dict[str, int]
    augment: MelAugment | None
    simulate: AcousticSimulator | None
    seed: int
    spec_augment: SpecAugment | None = None
    recordings: AugmentedClips | None = None
    references: bool = False

    def __post_init__(self) -> None:
        self.index = np.flatnonzero(self.mels.lengths > 0).astype(np.int32)  # clips that could be read

    @property
    def lengths(self) -> np.ndarray:
        """Mel frames of each clip, at most."""
        return self.mels.lengths[self.index]

    def lengths_in(self, epoch: int) -> np.ndarray:
        """Mel frames of each clip after the change of speed that it is drawn with in an epoch (of waveforms: before theirs)."""
        if self.augment is None:
            return self.lengths
        draws = (np.random.default_rng([self.seed, epoch, index]) for index in range(len(self)))
        return np.array([self.augment.frames(int(T), rng) for T, rng in zip(self.lengths, draws, strict=True)])

    @cached_property
    def _same_speaker(self) -> SameSpeaker:
        return SameSpeaker(self.rows, self.index)

    def item(self, index: int, epoch: int) -> SpeechSample:
        """Clip `index`, augmented as a function of (seed, epoch, index) unless the epoch is -1, and its reference, drawn
        likewise."""
        sample = self._clip(index, epoch)
        if self.references:
            rng = None if epoch < 0 else np.random.default_rng([self.seed, epoch, index, REFERENCE])
            sample.reference = self._clip(self._same_speaker.other(index, rng), -1)
        return sample

    def _clip(self, index: int, epoch: int) -> SpeechSample:
        row, mel = self.rows[self.row(index)], self.mels[self.row(index)]
        text, lead, trail, views = row["text"], 0, 0, [mel]
        if epoch >= 0:
            draw = [self.seed, epoch, index]
            rng = np.random.default_rng(draw)
            if self.recordings is not None:
                changed = self.recordings(self.row(index), np.random.default_rng([*draw, WAVEFORM]))
                mel = mel if changed is None else changed
            if self.augment is not None:
                mel = self.augment(mel, rng)
            if self.simulate is not None:
                simulated = self.simulate(mel, rng)
                mel, lead, trail = simulated.mel, simulated.lead, simulated.trail
                text = text if simulated.has_speech else ""
            views = (
                [mel] if self.spec_augment is None else self.spec_augment(mel, np.random.default_rng([*draw, VIEWS]))
            )
        return SpeechSample(
            mel=views[0],
            characters=np.array(encode_characters(text, self.characters), dtype=np.int64),
            speaker=self.speakers.get(speaker_of(row), 0),
            text=text,
            audio=row["audio"],
            sample_id=str(row["id"]),
            lead=lead,
            trail=trail,
            other_view=views[1] if len(views) > 1 else None,
        )


def fit_silence(samples: Sequence[SpeechSample]) -> list[np.ndarray]:
    """Mels (T, M), none longer than the longest clip without the silence around it: a batch takes no more time for it."""
    widest = max(len(sample.mel) - sample.lead - sample.trail for sample in samples)
    mels = []
    for sample in samples:
        surplus = max(0, len(sample.mel) - widest)
        front = round(surplus * sample.lead / max(1, sample.lead + sample.trail))
        mels.append(sample.mel[front : len(sample.mel) - (surplus - front)])
    return mels
