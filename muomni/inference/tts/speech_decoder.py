"""Codes of the Talker -> speech, through whatever codec it was trained with: a codec of mels with a vocoder, or a codec of
waveforms, which needs none. The rest of synthesis knows only `SpeechDecoder`.

Shapes: T frames of codes, K codebooks, N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from muomni.frontends.audio_io import resample
from muomni.inference.tts.blocks import BlockSynthesizer
from muomni.inference.tts.vocoder_blocks import StreamingVocoder, VocoderBlocks
from muomni.models.codec import Codec
from muomni.models.waveform_codec import DecoderState, WaveformCodec


class SpeechDecoder(Protocol):
    """Codes -> waveform. name: for statistics."""

    @property
    def name(self) -> str: ...

    @property
    def sample_rate(self) -> int:
        """Of the waveform, in Hz."""
        ...

    @property
    def frame_rate(self) -> float:
        """Frames of codes a second."""
        ...

    def blocks(self, *, after: BlockSynthesizer | None) -> Any:
        """A synthesizer of an utterance. after: that of the utterance before it in the same speech, whose level it continues."""
        ...


@dataclass(frozen=True)
class VocoderDecoder:
    """A codec of mels and a vocoder."""

    codec: Codec
    vocoder: StreamingVocoder

    @property
    def name(self) -> str:
        return self.vocoder.name

    @property
    def sample_rate(self) -> int:
        return self.vocoder.spec.sample_rate

    @property
    def frame_rate(self) -> float:
        return self.vocoder.spec.sample_rate / (self.vocoder.spec.hop * self.codec.stride)

    def blocks(self, *, after: BlockSynthesizer | None) -> VocoderBlocks:
        gain = after.gain if isinstance(after, VocoderBlocks) else None
        return VocoderBlocks(self.codec, self.vocoder, gain=gain)


@dataclass(frozen=True)
class WaveformDecoder:
    """A codec of waveforms. Speech has the level of the recordings that the Talker learned from."""

    codec: WaveformCodec

    @property
    def name(self) -> str:
        return self.codec.name

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def frame_rate(self) -> float:
        return self.codec.frame_rate

    def blocks(self, *, after: BlockSynthesizer | None) -> "WaveformBlocks":
        return WaveformBlocks(self.codec)


class WaveformBlocks(BlockSynthesizer):
    """Blocks of an utterance through a codec of waveforms: the samples of decoding all of its codes at once, up to rounding."""

    def __init__(self, codec: WaveformCodec) -> None:
        super().__init__(frame_rate=codec.frame_rate, ahead=codec.ahead, shortest=codec.first_frames)
        self.codec, self.state = codec, DecoderState()

    def _render(self, end: int, *, known: int, last: bool) -> Tensor:
        low = max(0, self.done - self.codec.past)
        codes = torch.stack(self.codes[low:known])[None]
        return self.codec.decode_block(codes, self.done - low, end - low, state=self.state)[0].clamp(-1, 1).cpu()


def speech_decoder(codec: Codec | WaveformCodec, vocoder: StreamingVocoder | None) -> SpeechDecoder:
    """What decodes the codes of a codec. vocoder: for a codec of mels."""
    if isinstance(codec, WaveformCodec):
        return WaveformDecoder(codec)
    assert vocoder is not None, "a codec of mels needs a vocoder"
    return VocoderDecoder(codec, vocoder)


def whole_decoder(
    codec: Codec | WaveformCodec, vocoder: Callable[[Tensor], Tensor], *, sample_rate: int
) -> Callable[[Tensor], Tensor]:
    """Codes (T, K) of an utterance -> waveform (N) at `sample_rate`, all at once. vocoder: mel (T, M) at that rate -> waveform,
    for a codec of mels."""
    if isinstance(codec, WaveformCodec):
        own: WaveformCodec = codec
        return lambda codes: resample(own.decode(codes[None])[0], own.sample_rate, sample_rate)
    return lambda codes: vocoder(codec.decode(codes[None])[0])
