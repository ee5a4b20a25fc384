"""Streaming synthesis, codes -> waveform: block by block, each fitted to the samples before it. Whole utterances are
synthesised by the same blocks, so the joined chunks of a stream equal the utterance bit for bit.

A block needs look-ahead: the codec's convolutions some frames of codes, the vocoder some mel frames. Its estimate of the first
samples of the next block is cross-faded into that block.

The gain brings the loudest sample so far to 0.95: it only decreases, within the samples of a fade.

Legend: T frames of codes, K codebooks, R mel frames per frame of codes, M mel bins, N samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from muomni.frontends.loudness import PEAK
from muomni.frontends.mel import MelSpec
from muomni.models.codec import Codec

BLOCK_SECONDS = 0.64
FADE_SECONDS = 0.01
MIN_PEAK = 0.05  # before the gain: quieter waveforms are not amplified to the level of speech


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


@dataclass
class RunningPeakGain:
    """Peak normalisation to `PEAK`, block by block."""

    fade: int  # samples
    peak: float = MIN_PEAK
    gain: float | None = None  # at the end of the last block

    def __call__(self, block: Tensor, ahead: Tensor) -> Tensor:
        """block (N), and the first samples of the next one -> the block at the new gain, ramped over `fade` samples."""
        self.peak = max(self.peak, float(torch.cat([block, ahead]).abs().amax()))
        new = PEAK / self.peak
        gain = torch.full_like(block, new)
        if self.gain is not None:
            gain[: self.fade] = torch.linspace(self.gain, new, self.fade, device=block.device)[: len(block)]
        self.gain = new
        return (block * gain).clamp(-PEAK, PEAK)


class BlockSynthesizer:
    """Frames of codes in, blocks of samples out. Block borders depend on the number of frames only, not on how they are
    pushed."""

    def __init__(self, codec: Codec, vocoder: StreamingVocoder) -> None:
        self.codec, self.vocoder = codec, vocoder
        spec, R = vocoder.spec, codec.stride
        context = -(-vocoder.context // R)  # in frames of codes, as the next two
        self.block = max(context, round(BLOCK_SECONDS * spec.sample_rate / (spec.hop * R)))
        self.ahead = context + codec.reach  # look-ahead after a block
        self.fade = min(spec.hop, round(FADE_SECONDS * spec.sample_rate))
        self.gain = RunningPeakGain(self.fade)
        self.codes: list[Tensor] = []  # K each
        self.done = 0  # frames already synthesised
        self.past = torch.zeros(0)  # their last samples, before the gain
        self.next = torch.zeros(0)  # the last block's estimate of the first samples of the next

    @torch.inference_mode()
    def push(self, codes: Tensor) -> list[Tensor]:
        """codes (n, K) -> the blocks (N) that they complete."""
        self.codes += list(codes)
        blocks = []
        while len(self.codes) - self.done >= self.block + self.ahead:
            blocks.append(self._render(self.done + self.block, closed=False))
        return blocks

    @torch.inference_mode()
    def close(self) -> list[Tensor]:
        """The remaining blocks at the end of the codes, the last of them up to 1.5 times as long."""
        blocks = []
        while (left := len(self.codes) - self.done) > 0:
            size = left if left <= self.block + self.block // 2 else self.block
            blocks.append(self._render(self.done + size, closed=True))
        return blocks

    def _render(self, end: int, *, closed: bool) -> Tensor:
        """Frames done..end -> samples (N)."""
        R, context = self.codec.stride, self.vocoder.context
        total = len(self.codes) * R  # mel frames, as the next two
        first, stop = max(0, self.done * R - context), min(total, end * R + context)
        mel = self._mel(first, stop)
        waveform = self.vocoder.extend(mel, self.past.to(mel.device), ends=closed and stop == total)
        self.next = self.next.to(waveform.device)  # created on the CPU
        waveform[: len(self.next)].lerp_(self.next, torch.linspace(1, 0, len(self.next), device=waveform.device))
        samples = (end - self.done) * R * self.vocoder.spec.hop
        block, self.next = waveform[:samples], waveform[samples : samples + self.fade]
        self.past = torch.cat([self.past.to(block.device), block])[-context * self.vocoder.spec.hop :]
        self.done = end
        return self.gain(block, self.next).cpu()

    def _mel(self, first: int, stop: int) -> Tensor:
        """Mel frames first..stop (frames, M), equal to those of decoding all codes at once."""
        R, reach = self.codec.stride, self.codec.reach
        low, high = max(0, first // R - reach), min(len(self.codes), -(-stop // R) + reach)
        mel = self.codec.decode(torch.stack(self.codes[low:high])[None])[0]
        return mel[first - low * R : stop - low * R]


def synthesize_stream(frames: Iterable[Tensor], codec: Codec, vocoder: StreamingVocoder) -> Iterator[Tensor]:
    """Frames of codes (K) one by one -> blocks (N) of the waveform, each as soon as its look-ahead is complete."""
    synthesizer = BlockSynthesizer(codec, vocoder)
    for frame in frames:
        yield from synthesizer.push(frame[None])
    yield from synthesizer.close()


def synthesize(codes: Tensor, codec: Codec, vocoder: StreamingVocoder) -> Tensor:
    """codes (T, K) -> waveform (N): the joined blocks of `synthesize_stream`."""
    synthesizer = BlockSynthesizer(codec, vocoder)
    return torch.cat([*synthesizer.push(codes), *synthesizer.close()])
