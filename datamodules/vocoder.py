"""Recordings with their mels, for the vocoder: short crops of clips to train on, whole clips to measure with.

A crop's mel is that of the whole clip: the frontend gets the samples on both sides of it.

Legend: B batch, N samples, T frames, M mel bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from datamodules.base import DataModule
from datamodules.manifests import Row, RowSet, first_rows, log_skipped
from datamodules.speech import keep_kinds
from datamodules.waveform_cache import WaveformCache
from muomni.batch import WaveformBatch
from muomni.frontends.mel import LogMel, MelSpec


@dataclass(slots=True)
class WaveformSample:
    """samples (N) float32, with `VocoderData.margin` frames of context on each side."""

    samples: np.ndarray
    through_codec: bool
    row: Row


@dataclass(eq=False, kw_only=True)
class WaveformSet(RowSet):
    """Clips of a manifest, at least a frame of `hop` samples long each.

    Args:
        rows: the manifest's. waveforms: theirs. margin: frames of context on each side. frames: of a training clip's crop; None:
            clips are whole. gain: a crop's change of level, up to +- dB. codec_share: of crops whose mel goes through the
            codec. seed: of the draws.
    """

    waveforms: WaveformCache
    hop: int
    margin: int
    frames: int | None
    gain: float
    codec_share: float
    seed: int

    def __post_init__(self) -> None:
        self.index = np.flatnonzero(self.waveforms.lengths >= self.hop)

    def item(self, index: int, epoch: int) -> WaveformSample:
        """Clip `index`: a crop that is a function of (seed, epoch, index), always the same one where the epoch is -1."""
        row = self.row(index)
        clip = self.waveforms[row]
        total = len(clip) // self.hop
        if self.frames is None:
            return WaveformSample(self._cut(clip, 0, total), False, self.rows[row])
        rng = np.random.default_rng([self.seed, epoch + 1, index])
        start = int(rng.integers(0, max(0, total - self.frames) + 1))
        gain = 10 ** (rng.uniform(-self.gain, self.gain) / 20)
        through_codec = bool(rng.random() < self.codec_share)
        return WaveformSample(self._cut(clip, start, self.frames) * np.float32(gain), through_codec, self.rows[row])

    def _cut(self, clip: np.ndarray, start: int, frames: int) -> np.ndarray:
        """Frames of a clip and the margins; zeros beyond the clip's ends, as the frontend has them."""
        first, last = (start - self.margin) * self.hop, (start + frames + self.margin) * self.hop
        inside = clip[max(0, first) : last]
        return np.pad(inside, (max(0, -first), last - max(0, first) - len(inside)))


@dataclass(kw_only=True, eq=False, repr=False)
class VocoderData(DataModule):
    """Speech manifests, as waveforms.

    Args:
        mel: the vocoder's input. seconds: of a training crop. gain: its change of level, in +- dB.
        codec_share: share (0 to 1) of the crops whose mel goes through the codec.
        test_kinds: of the test splits, keep only clips whose "kind" is one of these, or that have none; null keeps all.
        test_clips: of each test split, only so many first ones; null: all.
        memory_mb: for the recordings of a split.
    """

    mel: MelSpec
    seconds: float
    gain: float
    codec_share: float
    test_kinds: list[str] | None
    test_clips: int | None
    memory_mb: int

    def __post_init__(self) -> None:
        super().__post_init__()
        mel = self.mel
        self.frontend = LogMel(mel)
        self.margin = -(-mel.win // (2 * mel.hop))  # frames whose windows reach into the crop
        self.crop_frames = round(self.seconds * mel.frame_rate)
        if self.crop_frames < 1:
            raise ValueError(f"datamodule.seconds={self.seconds}: a piece must hold a frame, {1 / mel.frame_rate:g} s")

    def load(self, path: Path, split: str | None, *, phase: str) -> WaveformSet:
        what = str(path)
        rows = self.read_rows(path, split, shape="speech", phase=phase)
        if phase == "test":
            why = f"only the first are measured (datamodule.test_clips={self.test_clips})"
            rows = first_rows(keep_kinds(rows, self.test_kinds, what=what), self.test_clips, what=what, why=why)
        waveforms = WaveformCache(
            rows, sample_rate=self.mel.sample_rate, memory_mb=self.memory_mb, what=what, cache=self.cache
        )
        short = int(((waveforms.lengths > 0) & (waveforms.lengths < self.mel.hop)).sum())
        log_skipped(short, len(rows), what=what, why=f"shorter than a frame, {1000 / self.mel.frame_rate:g} ms")
        return WaveformSet(
            rows=rows,
            waveforms=waveforms,
            hop=self.mel.hop,
            margin=self.margin,
            frames=None if phase == "test" else self.crop_frames,
            gain=self.gain,
            codec_share=self.codec_share,
            seed=self.seed,
        )

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
            texts=[sample.row["text"] for sample in samples],
            audio=[sample.row["audio"] for sample in samples],
            sample_ids=[str(sample.row["id"]) for sample in samples],
        )

    def metadata(self) -> dict[str, Any]:
        return {"mel": self.mel.metadata()}
