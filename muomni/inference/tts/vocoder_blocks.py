"""Speech of a codec of mels: codes -> mel -> vocoder, block by block, each fitted to the samples before it.

A block needs look-ahead: the codec's convolutions some frames of codes, the vocoder some mel frames. Its estimate of the first
samples of the next block is cross-faded into that block.

Legend: T frames of codes, K codebooks, R mel frames per frame of codes, M mel bins, N samples.
"""

from typing import Protocol

import torch
from torch import Tensor

from muomni.frontends.mel import MelSpec
from muomni.inference.tts.blocks import BlockSynthesizer
from muomni.inference.tts.level import RunningPeakGain, mel_level
from muomni.models.codec import Codec

FADE_SECONDS = 0.01


class StreamingVocoder(Protocol):
    """Mel -> waveform, block by block: `GriffinLim`, `NeuralVocoder`. `name`: for statistics."""

    spec: MelSpec
    name: str

    @property
    def context(self) -> int:
        """Mel frames needed on each side of a block."""
        ...

    def extend(self, mel: Tensor, past: Tensor, *, ends: bool) -> Tensor:
        """See `GriffinLim.extend`."""
        ...


class VocoderBlocks(BlockSynthesizer):
    """Blocks of an utterance through a codec of mels and a vocoder.

    Args:
        gain: of the utterance before it in the same speech; None: a new one.
    """

    def __init__(self, codec: Codec, vocoder: StreamingVocoder, *, gain: RunningPeakGain | None = None) -> None:
        spec, R = vocoder.spec, codec.stride
        context = -(-vocoder.context // R)  # in frames of codes
        rate = spec.sample_rate / (spec.hop * R)
        super().__init__(frame_rate=rate, ahead=context + codec.reach, longest=context)
        self.codec, self.vocoder = codec, vocoder
        self.fade = min(spec.hop, round(FADE_SECONDS * spec.sample_rate))
        self.level = mel_level(spec)
        self.gain = RunningPeakGain(self.fade) if gain is None else gain
        self.past = torch.zeros(0)  # the last samples of the frames that are done, before the gain
        self.next = torch.zeros(0)  # the last block's estimate of the first samples of the next

    def _render(self, end: int, *, known: int, last: bool) -> Tensor:
        R, context = self.codec.stride, self.vocoder.context
        total = known * R  # mel frames, as the next two
        first, stop = max(0, self.done * R - context), min(total, end * R + context)
        whole, skipped = self._mel(first, known=known)
        mel = whole[skipped : skipped + stop - first]
        waveform = self.vocoder.extend(mel, self.past.to(mel.device), ends=last and stop == total)
        self.next = self.next.to(waveform.device)  # created on the CPU
        waveform[: len(self.next)].lerp_(self.next, torch.linspace(1, 0, len(self.next), device=waveform.device))
        samples = (end - self.done) * R * self.vocoder.spec.hop
        block, self.next = waveform[:samples], waveform[samples : samples + self.fade]
        self.past = torch.cat([self.past.to(block.device), block])[-context * self.vocoder.spec.hop :]
        return self.gain(block, self.next, expected=self.level(whole[skipped:])).cpu()

    def _mel(self, first: int, *, known: int) -> tuple[Tensor, int]:
        """The mel of the first `known` frames from about mel frame `first` on, and how many frames before that it begins. Its
        frames up to the codec's reach before the end equal those of decoding all codes at once."""
        R, reach = self.codec.stride, self.codec.reach
        low = max(0, first // R - reach)
        return self.codec.decode(torch.stack(self.codes[low:known])[None])[0], first - low * R
