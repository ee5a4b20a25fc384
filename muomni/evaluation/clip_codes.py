"""The codes of a batch's clips, through whatever codec the Talker speaks with.

A codec of mels gets the batch's. A codec of waveforms gets the recordings, at its own sample rate: each is encoded once, alone,
so that its codes do not depend on the batches that it comes in, and remembered.

Legend: B batch, T' frames of codes, n codebooks of the Talker.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.batch import SpeechBatch
from muomni.frontends.audio_io import read_audio
from muomni.frontends.memory_file import Media
from muomni.models.codec import Codec
from muomni.models.waveform_codec import WaveformCodec


class ClipCodes(Protocol):
    """Callable: a batch -> codes (B, T', n) and lengths (B) of its clips. frame_rate: frames of codes a second."""

    frame_rate: float

    def __call__(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]: ...

    def lengths(self, batch: SpeechBatch) -> Tensor:
        """The lengths alone."""
        ...


@dataclass
class MelCodes:
    """Of the batch's mels.

    Args:
        mel_rate: mel frames a second.
    """

    codec: Codec
    num_codebooks: int
    mel_rate: float

    def __post_init__(self) -> None:
        self.frame_rate = self.mel_rate / self.codec.stride

    @torch.no_grad()
    def __call__(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        return self.codec.encode(batch.mel, batch.mel_lengths)[..., : self.num_codebooks], self.lengths(batch)

    def lengths(self, batch: SpeechBatch) -> Tensor:
        return self.codec.code_lengths(batch.mel_lengths)


@dataclass
class RecordedCodes:
    """Of the recordings."""

    codec: WaveformCodec
    num_codebooks: int
    known: dict[Media, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.frame_rate = self.codec.frame_rate

    def __call__(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        rows = [row.long() for row in self._rows(batch)]
        codes = pad_sequence(rows, batch_first=True).to(batch.mel.device, non_blocking=True)
        return codes, self.lengths(batch)

    def lengths(self, batch: SpeechBatch) -> Tensor:
        counts = torch.tensor([len(row) for row in self._rows(batch)])
        return counts.to(batch.mel.device, non_blocking=True)

    @torch.no_grad()
    def _rows(self, batch: SpeechBatch) -> list[Tensor]:
        """The codes (T', n) of each clip, int32 on the CPU."""
        device = next(self.codec.parameters()).device
        for path in batch.audio:
            if path not in self.known:
                waveform = read_audio(path, self.codec.sample_rate).to(device)
                codes = self.codec.encode(waveform[None])[0, :, : self.num_codebooks]
                self.known[path] = codes.to("cpu", torch.int32)
        return [self.known[path] for path in batch.audio]


def clip_codes(codec: Codec | WaveformCodec, *, num_codebooks: int, mel_rate: float) -> ClipCodes:
    """What finds the codes of the first `num_codebooks` codebooks of a codec. mel_rate: of the batches' mels, frames a second."""
    if isinstance(codec, WaveformCodec):
        return RecordedCodes(codec, num_codebooks)
    return MelCodes(codec, num_codebooks, mel_rate)
