"""An audio encoder of chunks (nn/chunked.py) while its input arrives: log-mel in, logits out, equal to those of the whole.

Legend: T mel frames, M mel bins, C encoder frames of a chunk, R of its right context, r mel frames an encoder frame, S symbols.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from muomni.models.audio import Audio
from muomni.nn.chunked import ChunkCache
from muomni.nn.context import AttentionContext


class StreamLogits(NamedTuple):
    """settled (c, S): of the frames after those of the step before, final; open (o, S): of those after them, which the next step
    computes again with more to come."""

    settled: Tensor
    open: Tensor


class AudioStream:
    """The state of one utterance. Raises ValueError for an encoder without chunks, which cannot be read in steps."""

    def __init__(self, audio: Audio) -> None:
        if audio.encoder.chunks is None:
            raise ValueError("this encoder was trained without chunks: train with audio_encoder=streaming")
        self.audio, self.chunks = audio, audio.encoder.chunks
        self.cache = ChunkCache(self.chunks)
        self.features = next(audio.parameters()).new_zeros(1, 0, audio.dim)  # of the stem, not yet settled
        self.tail: Tensor | None = None  # the last r mel frames: the stem's convolutions see some of them again

    @property
    def next_frames(self) -> int:
        """Mel frames that the next `step` takes."""
        return (self.chunks.block - self.features.shape[1]) * self.audio.downsample

    def step(self, mel: Tensor) -> StreamLogits:
        """mel (T, M) of exactly `next_frames` frames -> logits of the chunk that they complete."""
        assert len(mel) == self.next_frames, f"a step takes {self.next_frames} mel frames, not {len(mel)}"
        self._read(mel)
        return self._block()

    def close(self, mel: Tensor) -> StreamLogits:
        """The last mel frames (T, M), perhaps none -> logits of all that is left."""
        if len(mel):
            self._read(mel)
        settled = [self.features.new_zeros(0, self.audio.num_symbols)]
        while self.features.shape[1]:
            settled.append(self._block().settled)
        return StreamLogits(torch.cat(settled), settled[0])

    def _read(self, mel: Tensor) -> None:
        """Mel frames -> the stem's features."""
        r, tail = self.audio.downsample, self.tail
        mel = mel.to(self.features.device)
        features = self.audio.encoder.stem((mel if tail is None else torch.cat([tail, mel]))[None], None)
        self.features = torch.cat([self.features, features if tail is None else features[:, 1:]], dim=1)
        self.tail = mel[-r:]

    def _block(self) -> StreamLogits:
        """One pass through the blocks."""
        encoder, C = self.audio.encoder, self.chunks.chunk
        x, self.features = self.features[:, : self.chunks.block], self.features[:, C:]
        positions = self.cache.position + torch.arange(x.shape[1], device=x.device)
        rope = None if encoder.rope is None else encoder.rope(positions)
        hidden = encoder.transformer(x, AttentionContext(rope, cache=self.cache)).hidden
        logits = self.audio.head(hidden)[0]
        return StreamLogits(logits[:C], logits[C:])
