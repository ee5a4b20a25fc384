"""Typed batches: the seam between datamodules and stages.

What a step would otherwise have to read from the device, and wait for (how many targets there are, and where; how long clips
are), is computed while the tensors are still on the host: `precompute`, called where a batch is pinned or moved. Rows that hold
several samples have a `SegmentMask`, made by the collator.

Legend: B batch, T tokens or frames, C characters, M mel bins, N images, A audios, H height, W width.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from torch import Tensor

from muomni.frontends.memory_file import Media
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import AUDIO, IGNORE, IMAGE


def _flat_indices(true: Tensor) -> Tensor:
    """Indices into the flattened tensor, long, where it is true."""
    return true.flatten().nonzero()[:, 0]


@dataclass(slots=True)
class Window:
    """Number `index` of the batches that share an optimizer step. counts: by loss, (batches) float32: how many targets it is
    a mean over in each of them."""

    counts: dict[str, Tensor]
    index: int

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Window":
        """Move to a device."""
        counts = {name: each.to(device, non_blocking=non_blocking) for name, each in self.counts.items()}
        return Window(counts, self.index)


class _Movable:
    """Moves every tensor field; other fields stay."""

    __slots__ = ("window",)
    window: Window
    """Present only while gradients are accumulated."""

    def precompute(self) -> None:
        """Fill the fields that follow from others, once."""

    def _map(self, change: Any) -> Self:
        self.precompute()
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if isinstance(value, Tensor):
                setattr(self, each.name, change(value))
            elif isinstance(value, _Movable):
                value._map(change)
            elif isinstance(value, SegmentMask):
                setattr(self, each.name, value.map(change))
        return self

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Self:
        """Move to a device, in place; returns self."""
        if hasattr(self, "window"):
            self.window = self.window.to(device, non_blocking)
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def tokens(self) -> tuple[Tensor, int]:
        """How many tokens (frames of speech) are real, and how many there are with padding."""
        batch: Any = self
        if not hasattr(self, "ids"):
            return batch.mel_lengths.sum(), batch.mel.shape[0] * batch.mel.shape[1]
        return batch.lengths.sum(), batch.ids.numel()

    def pin_memory(self) -> Self:
        """Pin every tensor, for the loader's copy to a GPU; returns self."""
        return self._map(Tensor.pin_memory)


@dataclass(slots=True)
class TextBatch(_Movable):
    """ids (B, T) long; targets (B, T) long, IGNORE where nothing is predicted; lengths (B) of the real tokens."""

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    document_types: list[str]
    floors: Tensor
    """(B) double: minus the log-probability of the document under the generator, in nats; NaN where unknown."""
    sample_ids: list[str]
    mask: SegmentMask | None = None
    """Where rows hold several documents; the lists are then by document."""
    weights: Tensor | None = None
    """(B, T) float: how much each target counts in training; None: all alike."""


@dataclass(slots=True)
class ImageTextBatch(_Movable):
    """images (B, 3, H, W) float; ids (B, T) long padded with PAD; lengths (B)."""

    images: Tensor
    ids: Tensor
    lengths: Tensor
    captions: list[str]
    paths: list[Media]
    objects: list[list[dict[str, Any]]]
    """Of each image, if its manifest names them: colour, shape, size, cell (0-8); else empty."""
    sample_ids: list[str]
    groups: list[str] = field(default_factory=list)
    """Images of one group (twins) are retrieved from one pool; empty: each is a group."""
    real: Tensor | None = None
    """(N) long: flat indices of the captions' tokens without padding."""

    def precompute(self) -> None:
        if self.real is None:
            self.real = _flat_indices(torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None])


@dataclass(slots=True)
class OcrBatch(_Movable):
    """images (B, 3, H, W) float; ids (B, C) long: BOS and the characters; targets (B, C) long: the characters and EOS."""

    images: Tensor
    ids: Tensor
    targets: Tensor
    texts: list[str]
    paths: list[Media]
    sample_ids: list[str]

    def tokens(self) -> tuple[Tensor, int]:
        return (self.targets != IGNORE).sum(), self.ids.numel()


@dataclass(slots=True)
class SpeechBatch(_Movable):
    """mel (B, T, M) log-mel; mel_lengths (B); characters (B, C) long, 0-padded; character_lengths (B); speakers (B) long;
    audio: the recordings. views: 2 where the second half of the rows are other views of the first (spec_augment.py).
    references: of each row another clip of its speaker, which tells the voice."""

    mel: Tensor
    mel_lengths: Tensor
    characters: Tensor
    character_lengths: Tensor
    speakers: Tensor
    texts: list[str]
    audio: list[Media]
    sample_ids: list[str]
    frame_counts: list[int] | None = None
    """`mel_lengths`, known to the host."""
    character_counts: list[int] | None = None
    frames_needed: list[int] | None = None
    """Fewest frames of a CTC head for each text."""
    views: int = 1
    references: "SpeechBatch | None" = None

    def precompute(self) -> None:
        if self.frame_counts is None:
            self.frame_counts = self.mel_lengths.tolist()
            self.character_counts = self.character_lengths.tolist()
            rows = zip(self.characters.tolist(), self.character_counts, strict=True)
            self.frames_needed = [count + sum(map(int.__eq__, row[:count], row[1:count])) for row, count in rows]


@dataclass(slots=True)
class WaveformBatch(_Movable):
    """mel (B, T, M) log-mel; mel_lengths (B); waveform (B, T x hop), what the mel was made of; through_codec (B) bool: clips
    whose mel goes through the codec before the vocoder; audio: the recordings."""

    mel: Tensor
    mel_lengths: Tensor
    waveform: Tensor
    through_codec: Tensor
    texts: list[str]
    audio: list[Media]
    sample_ids: list[str]
    any_through_codec: bool | None = None

    def precompute(self) -> None:
        if self.any_through_codec is None:
            self.any_through_codec = bool(self.through_codec.any())


@dataclass(slots=True)
class OmniBatch(_Movable):
    """ids, targets (B, T); lengths (B); images (N, 3, H, W) and mel (A, T, M) + mel_lengths (A) in order of their slots, with
    the row of each and its key in caches, its path."""

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    images: Tensor | None
    mel: Tensor | None
    mel_lengths: Tensor | None
    image_rows: list[int]
    audio_rows: list[int]
    image_keys: list[Media]
    audio_keys: list[Media]
    questions: list[str]
    answers: list[str]
    tasks: list[str]
    meta: list[dict[str, Any]]
    sample_ids: list[str]
    mask: SegmentMask | None = None
    """Where rows hold several conversations; the lists are then by conversation. Questions that share an image are branches,
    and the image's tokens are branch 0."""
    replayed: Tensor | None = None
    """(B, T) bool, True for the tokens of replayed documents, in a training that replays some."""
    target_indices: Tensor | None = None
    """(N) long: flat indices of the targets that are not IGNORE."""
    slots: tuple[int, int] | None = None
    """How many image and audio slots `ids` has."""
    frame_counts: list[int] | None = None
    """`mel_lengths`, known to the host."""

    def precompute(self) -> None:
        if self.target_indices is not None:
            return
        self.target_indices = _flat_indices(self.targets != IGNORE)
        self.slots = int((self.ids == IMAGE).sum()), int((self.ids == AUDIO).sum())
        self.frame_counts = None if self.mel_lengths is None else self.mel_lengths.tolist()
