"""The omni model: a Thinker that also reads projected image and audio tokens.

Its modules are built elsewhere and may be missing: an error names a missing one when it is needed.

Legend: B batch, T tokens, N images, A audios, M mel bins, D width of the Thinker, I image side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muomni.models.encoders import AudioEncoder, ImageEncoder
from muomni.models.outputs import AudioOutput, ThinkerOutput, VisionOutput
from muomni.models.projector import AudioProjector, ImageProjector
from muomni.models.thinker import Thinker
from muomni.nn.conv import frame_mask
from muomni.special_tokens import AUDIO, IMAGE

NO_ENCODER = "this model reads no {media}: it has no {encoder} encoder (train stage={encoder}, then omni_sft)"


@dataclass(slots=True)
class MediaFeatures:
    """Pooled encoder outputs before their projectors, as `Omni.encode` returns them; a stage may cache them.

    images (N, tokens, width) or None; audios (A, tokens, width) padded or None; audio_lengths (A) in tokens; audio_counts:
    the same numbers, where the host knows them and need not wait for a GPU.
    """

    images: Tensor | None = None
    audios: Tensor | None = None
    audio_lengths: Tensor | None = None
    audio_counts: list[int] | None = None


def merge_features(rows: Sequence[MediaFeatures]) -> MediaFeatures:
    """Features of several prompts, batched in order."""
    images = [row.images for row in rows if row.images is not None]
    audios = [row for row in rows if row.audios is not None]
    merged = MediaFeatures(images=torch.cat(images) if images else None)
    if audios:
        clips = [clip for row in audios for clip in row.audios]  # type: ignore[union-attr]
        merged.audios = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        merged.audio_lengths = torch.cat([row.audio_lengths for row in audios])  # type: ignore[misc]
        if all(row.audio_counts is not None for row in audios):
            merged.audio_counts = [count for row in audios for count in row.audio_counts]  # type: ignore[union-attr]
    return merged


def split_features(row: MediaFeatures) -> Iterator[MediaFeatures]:
    """Those of each image and each audio, without padding."""
    for image in () if row.images is None else row.images:
        yield MediaFeatures(images=image[None])
    if row.audios is not None and row.audio_lengths is not None:
        counts = row.audio_lengths.tolist() if row.audio_counts is None else row.audio_counts
        for clip, count in zip(row.audios, counts, strict=True):
            lengths = torch.tensor([count], device=clip.device)
            yield MediaFeatures(audios=clip[None, :count], audio_lengths=lengths, audio_counts=[count])


class Omni(nn.Module):
    """Thinker + encoders + projectors. Only the Thinker is needed.

    Args:
        read_words: logits of the audio encoder's CTC head (B, T, S) and their lengths (B) -> ids of the word pieces in each clip;
            for a projector with `words` (muomni/frontends/heard_words.py).
    """

    def __init__(
        self,
        *,
        thinker: Thinker,
        vision: ImageEncoder | None = None,
        image_projector: ImageProjector | None = None,
        audio: AudioEncoder | None = None,
        audio_projector: AudioProjector | None = None,
        read_words: Callable[[Tensor, Tensor], Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__()
        self._read_words = read_words
        self.thinker = thinker
        self.vision, self.image_projector = vision, image_projector
        self.audio, self.audio_projector = audio, audio_projector

    @property
    def image_tokens(self) -> int:
        """Slots of an image; 0 without a vision encoder."""
        return 0 if self.image_projector is None else self.image_projector.num_tokens

    def encode(
        self, *, images: Tensor | None = None, mel: Tensor | None = None, mel_lengths: Tensor | None = None
    ) -> MediaFeatures:
        """Run the encoders: images (N, 3, I, I), mel (A, frames, M) with mel_lengths (A)."""
        features = MediaFeatures()
        if images is not None:
            if self.vision is None or self.image_projector is None:
                raise ValueError(NO_ENCODER.format(media="images", encoder="vision"))
            encoded: VisionOutput = self.vision(images)
            features.images = self.image_projector.pool(encoded)
        if mel is not None:
            if self.audio is None or self.audio_projector is None:
                raise ValueError(NO_ENCODER.format(media="audio", encoder="audio"))
            frames: AudioOutput = self.audio(mel, mel_lengths)
            pieces = self._pieces(frames) if self.audio_projector.words else ()
            features.audios, features.audio_lengths = self.audio_projector.pool(frames, pieces=pieces)
        return features

    def _pieces(self, frames: AudioOutput) -> Sequence[Sequence[int]]:
        if self._read_words is None:
            raise ValueError("the audio projector adds words, and read_words= is missing that reads them")
        return self._read_words(frames.logits, frames.lengths)

    def project(self, features: MediaFeatures) -> tuple[Tensor | None, Tensor | None]:
        """Image tokens and audio tokens in the order of their slots, flat: (slots, D) each, or None."""
        images = audios = None
        if features.images is not None:
            assert self.image_projector is not None
            images = self.image_projector(features.images).flatten(0, 1)
        if features.audios is not None:
            assert self.audio_projector is not None
            assert features.audio_lengths is not None
            lengths, longest = features.audio_lengths, features.audios.shape[1]
            audios = self.audio_projector(features.audios)
            pieces = self.audio_projector.pieces(features.audios)
            if pieces is not None:
                words = self.thinker.embedding(pieces.clamp(min=0))
                audios = torch.where((pieces >= 0)[..., None], words.to(audios.dtype), audios)
            if features.audio_counts is None:
                audios = audios[frame_mask(lengths, longest)]
            else:
                real = frame_mask(torch.tensor(features.audio_counts), longest).flatten().nonzero()[:, 0]
                audios = audios.flatten(0, 1)[real.to(lengths.device, non_blocking=True)]
        return images, audios

    def embed(self, ids: Tensor, *, features: MediaFeatures, slots: tuple[int, int] | None = None) -> Tensor:
        """ids (B, T) with media slots, features of the media in their order -> embeddings (B, T, D).
        slots: how many of images and of audio there are, where the host knows it.

        Raises ValueError when slots and media tokens differ in number.
        """
        return self.fill(ids, *self.project(features), slots=slots)

    def fill(
        self, ids: Tensor, images: Tensor | None, audios: Tensor | None, *, slots: tuple[int, int] | None = None
    ) -> Tensor:
        """`embed` of media that are projected already, as `project` returns them."""
        x = self.thinker.embedding(ids)
        known = (None, None) if slots is None else slots
        media = ("image", IMAGE, images), ("audio", AUDIO, audios)
        for (name, slot, tokens), count in zip(media, known, strict=True):
            where = ids == slot
            given = 0 if tokens is None else tokens.shape[0]
            wanted = int(where.sum()) if count is None else count
            if wanted != given:
                raise ValueError(f"{wanted} {name} slots in the tokens, but {given} {name} tokens from the media")
            if tokens is not None:
                x = x.masked_scatter(where[..., None], tokens.to(x.dtype))
        return x

    def forward(self, ids: Tensor, *, features: MediaFeatures, **options: Any) -> ThinkerOutput:
        """Read a sequence of image, audio and text tokens; options as of `Thinker.forward`."""
        return self.thinker(ids, embeddings=self.embed(ids, features=features), **options)
