"""Recordings with their mels, for the vocoder: short pieces of clips to train on, whole clips to measure with.

A piece's mel is that of the whole clip: the frontend sees the samples on both sides of it.

Legend: B batch, N samples, T frames, M mel bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from datamodules.base import DataModule, SampleSet
from datamodules.manifests import log_skipped, read_manifest
from datamodules.waveform_cache import WaveformCache
from muomni.batch import WaveformBatch
from muomni.frontends.mel import LogMel, MelSpec


@dataclass(slots=True)
class WaveformSample:
    """samples (N) float32, with `VocoderData.margin` frames of context on each side."""

    samples: np.ndarray
    through_codec: bool
    text: str
    audio: str
    sample_id: str


@dataclass(frozen=True, kw_only=True)
class Crop:
    """What is drawn of a training clip: `frames` of it, with `margin` more on each side, its level changed by up to +-`gain`
    dB; with probability `codec_share` its mel shall go through the codec."""

    frames: int
    margin: int
    hop: int
    gain: float
    codec_share: float


class WaveformSet:
    """Clips of a manifest, at least a frame long each.

    Args:
        rows: the manifest's. sounds: theirs. piece: of a draw. seed: of the draws. whole: give whole clips as they are.
    """

    def __init__(
        self, rows: list[dict[str, Any]], sounds: WaveformCache, *, piece: Crop, seed: int, whole: bool
    ) -> None:
        self.rows, self.sounds, self.piece, self.seed, self.whole = rows, sounds, piece, seed, whole
        self.index = np.flatnonzero(sounds.lengths >= piece.hop)

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        """Id of the clip."""
        return str(self.rows[int(self.index[index])]["id"])

    def item(self, index: int, epoch: int) -> WaveformSample:
        """Clip `index`: a piece as a function of (seed, epoch, index); the same piece always where the epoch is -1."""
        place = int(self.index[index])
        row, clip = self.rows[place], self.sounds[place]
        piece, through_codec = self.piece, False
        frames = len(clip) // piece.hop
        if self.whole:
            samples = _cut(clip, 0, frames, piece)
        else:
            rng = np.random.default_rng([self.seed, epoch + 1, index])
            start = int(rng.integers(0, max(0, frames - piece.frames) + 1))
            gain = 10 ** (rng.uniform(-piece.gain, piece.gain) / 20)
            through_codec = bool(rng.random() < piece.codec_share)
            samples = _cut(clip, start, piece.frames, piece) * np.float32(gain)
        return WaveformSample(samples, through_codec, row["text"], row["audio"], str(row["id"]))


def _cut(clip: np.ndarray, start: int, frames: int, piece: Crop) -> np.ndarray:
    """`frames` frames of a clip from frame `start` on, and the margins; zeros beyond the clip's ends, as the frontend has
    them."""
    first, last = (start - piece.margin) * piece.hop, (start + frames + piece.margin) * piece.hop
    inside = clip[max(0, first) : last]
    return np.pad(inside, (max(0, -first), last - max(0, first) - len(inside)))


class VocoderData(DataModule):
    """Speech manifests, as sounds.

    Args:
        mel: the spectrogram that the vocoder shall make audible. seconds: of a training piece. gain: of it, in +- dB.
        codec_share: share (0 to 1) of the pieces whose mel goes through the codec.
        test_kinds: of the test splits, keep only clips whose "kind" is one of these, or that have none; null keeps all.
        test_clips: of each test split, only the first so many; null: all.
        memory_mb: for the sounds of a split.
    """

    def __init__(
        self,
        *,
        mel: MelSpec,
        seconds: float,
        gain: float,
        codec_share: float,
        test_kinds: list[str] | None,
        test_clips: int | None,
        memory_mb: int,
        **loaders: Any,
    ) -> None:
        super().__init__(**loaders)
        self.mel, self.frontend, self.memory_mb = mel, LogMel(mel), memory_mb
        self.margin = -(-mel.win // (2 * mel.hop))  # frames whose windows reach into the piece
        frames = round(seconds * mel.frame_rate)
        if frames < 1:
            raise ValueError(f"datamodule.seconds={seconds}: a piece must hold a frame, {1 / mel.frame_rate:g} s")
        self.piece = Crop(frames=frames, margin=self.margin, hop=mel.hop, gain=gain, codec_share=codec_share)
        self.test_kinds, self.test_clips = None if test_kinds is None else set(test_kinds), test_clips

    def load(self, path: Path, split: str | None, *, train: bool) -> WaveformSet:
        """Read a manifest and its sounds."""
        return self._load(path, read_manifest(path, shape="speech", split=split, root=self.root), whole=False)

    def _load(self, path: Path, rows: list[dict[str, Any]], *, whole: bool) -> WaveformSet:
        for row in rows:
            row["text"] = row["text"].strip().lower()
        sounds = WaveformCache(rows, sample_rate=self.mel.sample_rate, memory_mb=self.memory_mb, what=str(path))
        short = int(((sounds.lengths > 0) & (sounds.lengths < self.mel.hop)).sum())
        log_skipped(short, len(rows), what=str(path), why=f"shorter than a frame, {1000 / self.mel.frame_rate:g} ms")
        return WaveformSet(rows, sounds, piece=self.piece, seed=self.seed, whole=whole)

    def samples(self, kind: str) -> SampleSet:
        """As the base has it, but whole clips of the asked kinds for a test."""
        if kind in self._sets or not kind.startswith("test/"):
            return super().samples(kind)
        path = Path(self.test_paths[kind.removeprefix("test/")])
        rows = read_manifest(path, shape="speech", split=self.splits.get("test"), root=self.root)
        if self.test_kinds is not None:
            kept = [row for row in rows if row.get("kind") in (None, *self.test_kinds)]
            why = f"their kind is not {', '.join(sorted(self.test_kinds))} (datamodule.test_kinds)"
            log_skipped(len(rows) - len(kept), len(rows), what=str(path), why=why)
            rows = kept
            if not rows:
                raise ValueError(
                    f"{path}: no clip of the kinds {sorted(self.test_kinds)}; set datamodule.test_kinds=null"
                )
        kept = rows[: self.test_clips]
        why = f"only the first are measured (datamodule.test_clips={self.test_clips})"
        log_skipped(len(rows) - len(kept), len(rows), what=str(path), why=why)
        self._sets[kind] = self._load(path, kept, whole=True)
        return self._sets[kind]

    def collate(self, samples: Sequence[WaveformSample]) -> WaveformBatch:
        """Pad by zeros, which leave a clip's frames as they are, and look at all clips at once."""
        padded = pad_sequence([torch.from_numpy(sample.samples) for sample in samples], batch_first=True)
        frames = [len(sample.samples) // self.mel.hop - 2 * self.margin for sample in samples]
        inside = slice(self.margin, self.margin + max(frames))
        return WaveformBatch(
            mel=self.frontend(padded)[:, inside],
            mel_lengths=torch.tensor(frames),
            waveform=padded[:, inside.start * self.mel.hop : inside.stop * self.mel.hop],
            through_codec=torch.tensor([sample.through_codec for sample in samples]),
            texts=[sample.text for sample in samples],
            audio=[sample.audio for sample in samples],
            sample_ids=[sample.sample_id for sample in samples],
        )

    def facts(self) -> dict[str, Any]:
        """What the stage must know: the spectrogram."""
        return {"mel": self.mel.facts()}
