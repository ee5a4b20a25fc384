"""Codes -> waveform while they come: block by block, each fitted to the samples before it. Whole utterances are spoken by
the very same blocks, so that a stream's chunks, one behind the other, are the utterance to the last bit.

A block needs to see what comes behind it: the codec's convolutions some rows of codes, the vocoder some mel frames. What
it finds for the first samples of the next block is faded into that block's own.

The level is that of the loudest sample so far, brought to 0.95: it only ever sinks, over the samples of a fade.

Legend: T rows of codes, K codebooks, R mel frames a row, M mel bins, N samples.
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
MIN_PEAK = 0.05  # of a waveform before its level: what is quieter is not made as loud as speech


class Vocoder(Protocol):
    """What makes mels audible, piece by piece: `GriffinLim`, `NeuralVocoder`. `name`: for statistics."""

    spec: MelSpec
    name: str

    @property
    def context(self) -> int:
        """Mel frames that it wants to know on each side of a piece."""
        ...

    def extend(self, mel: Tensor, past: Tensor, *, ends: bool) -> Tensor:
        """See `GriffinLim.extend`."""
        ...


@dataclass
class Level:
    """Brings a waveform's loudest sample to `PEAK`, block by block."""

    fade: int  # samples
    peak: float = MIN_PEAK
    gain: float | None = None  # at the end of the last block

    def __call__(self, block: Tensor, ahead: Tensor) -> Tensor:
        """block (N), and what the next one begins with: at the new level, which `fade` samples lead to."""
        self.peak = max(self.peak, float(torch.cat([block, ahead]).abs().amax()))
        new = PEAK / self.peak
        gain = torch.full_like(block, new)
        if self.gain is not None:
            gain[: self.fade] = torch.linspace(self.gain, new, self.fade, device=block.device)[: len(block)]
        self.gain = new
        return (block * gain).clamp(-PEAK, PEAK)


class BlockVocoder:
    """Rows of codes in, blocks of samples out.

    Where one block ends and the next begins follows from the number of rows alone, never from how they came.
    """

    def __init__(self, codec: Codec, vocoder: Vocoder) -> None:
        self.codec, self.vocoder = codec, vocoder
        spec, R = vocoder.spec, codec.stride
        context = -(-vocoder.context // R)  # in rows, as the next two
        self.block = max(context, round(BLOCK_SECONDS * spec.sample_rate / (spec.hop * R)))
        self.ahead = context + codec.reach  # that a block sees behind itself
        self.fade = min(spec.hop, round(FADE_SECONDS * spec.sample_rate))
        self.level = Level(self.fade)
        self.codes: list[Tensor] = []  # K each
        self.done = 0  # rows that were made audible
        self.past = torch.zeros(0)  # their last samples, before the level
        self.next = torch.zeros(0)  # what the last block found for the first samples of the next

    @torch.inference_mode()
    def push(self, rows: Tensor) -> list[Tensor]:
        """rows (n, K) -> the blocks (N) that they complete."""
        self.codes += list(rows)
        blocks = []
        while len(self.codes) - self.done >= self.block + self.ahead:
            blocks.append(self._render(self.done + self.block, closed=False))
        return blocks

    @torch.inference_mode()
    def close(self) -> list[Tensor]:
        """No more rows come: the blocks that are left, the last of them up to half as long again."""
        blocks = []
        while (left := len(self.codes) - self.done) > 0:
            size = left if left <= self.block + self.block // 2 else self.block
            blocks.append(self._render(self.done + size, closed=True))
        return blocks

    def _render(self, end: int, *, closed: bool) -> Tensor:
        """Rows done..end -> samples (N)."""
        R, context = self.codec.stride, self.vocoder.context
        total = len(self.codes) * R  # mel frames, as the next two
        first, stop = max(0, self.done * R - context), min(total, end * R + context)
        mel = self._mel(first, stop)
        found = self.vocoder.extend(mel, self.past.to(mel.device), ends=closed and stop == total)
        self.next = self.next.to(found.device)  # at first made on the CPU
        found[: len(self.next)].lerp_(self.next, torch.linspace(1, 0, len(self.next), device=found.device))
        samples = (end - self.done) * R * self.vocoder.spec.hop
        block, self.next = found[:samples], found[samples : samples + self.fade]
        self.past = torch.cat([self.past.to(block.device), block])[-context * self.vocoder.spec.hop :]
        self.done = end
        return self.level(block, self.next).cpu()

    def _mel(self, first: int, stop: int) -> Tensor:
        """Mel frames first..stop of the codes so far (frames, M), as decoding all of them gives them."""
        R, reach = self.codec.stride, self.codec.reach
        low, high = max(0, first // R - reach), min(len(self.codes), -(-stop // R) + reach)
        mel = self.codec.decode(torch.stack(self.codes[low:high])[None])[0]
        return mel[first - low * R : stop - low * R]


def spoken_blocks(rows: Iterable[Tensor], codec: Codec, vocoder: Vocoder) -> Iterator[Tensor]:
    """Rows of codes (K) one by one -> blocks (N) of the waveform, each as soon as its rows and those behind it are there."""
    blocks = BlockVocoder(codec, vocoder)
    for row in rows:
        yield from blocks.push(row[None])
    yield from blocks.close()


def spoken_waveform(codes: Tensor, codec: Codec, vocoder: Vocoder) -> Tensor:
    """codes (T, K) -> waveform (N): the blocks of `spoken_blocks`, joined."""
    blocks = BlockVocoder(codec, vocoder)
    return torch.cat([*blocks.push(codes), *blocks.close()])
