"""Streaming synthesis, codes -> waveform: block by block, each fitted to the samples before it. Whole utterances are
synthesised by the same blocks, so the joined chunks of a stream equal the utterance bit for bit.

A block needs look-ahead: the codec's convolutions some frames of codes, the vocoder some mel frames. Its estimate of the first
samples of the next block is cross-faded into that block. The first block is short, so that a listener waits for few frames, and
each one after it twice as long as the one before, up to `BLOCK_SECONDS`: longer blocks are cheaper, and each plays while the
next one is made.

A block depends on the codes up to its look-ahead only, whenever it is rendered: late (a scheduler with other utterances to
serve) is the same as at once.

Legend: T frames of codes, K codebooks, R mel frames per frame of codes, M mel bins, N samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from muomni.frontends.mel import MelSpec
from muomni.inference.tts.level import RunningPeakGain, mel_level
from muomni.models.codec import Codec

FIRST_BLOCK_SECONDS = 0.24  # with 0.16 the second block of four streams on a core comes too late
BLOCK_SECONDS = 0.64
FADE_SECONDS = 0.01
PAUSE_SECONDS = 0.2  # between two sentences


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


class BlockSynthesizer:
    """Frames of codes in, blocks of samples out. Block borders depend on the number of frames only, not on how they are
    pushed.

    Args:
        gain: of the utterance before it in the same speech; None: a new one.
    """

    def __init__(self, codec: Codec, vocoder: StreamingVocoder, *, gain: RunningPeakGain | None = None) -> None:
        self.codec, self.vocoder = codec, vocoder
        spec, R = vocoder.spec, codec.stride
        context = -(-vocoder.context // R)  # in frames of codes, as the next three
        self.longest = max(context, round(BLOCK_SECONDS * spec.sample_rate / (spec.hop * R)))
        self.block = min(self.longest, max(1, round(FIRST_BLOCK_SECONDS * spec.sample_rate / (spec.hop * R))))
        self.ahead = context + codec.reach  # look-ahead after a block
        self.fade = min(spec.hop, round(FADE_SECONDS * spec.sample_rate))
        self.level = mel_level(spec)
        self.gain = RunningPeakGain(self.fade) if gain is None else gain
        self.codes: list[Tensor] = []  # K each
        self.closed = False
        self.done = 0  # frames already synthesised
        self.past = torch.zeros(0)  # their last samples, before the gain
        self.next = torch.zeros(0)  # the last block's estimate of the first samples of the next

    def add(self, codes: Tensor) -> None:
        """Append codes (n, K); `render` then returns the blocks that they complete."""
        self.codes += list(codes)

    def end(self) -> None:
        """No more codes will come: the rest is complete."""
        self.closed = True

    @property
    def ready(self) -> bool:
        """True if a block is complete, with its look-ahead."""
        left = len(self.codes) - self.done
        return left > 0 if self.closed else left >= self.block + self.ahead

    @torch.inference_mode()
    def render(self) -> Tensor:
        """The next block (N); the last one is up to 1.5 times as long as its turn."""
        left = len(self.codes) - self.done
        if left >= self.block + self.ahead:
            size, known, last = self.block, self.done + self.block + self.ahead, False
        else:
            assert self.closed, "the block has no look-ahead yet"
            size = left if left <= self.block + self.block // 2 else self.block
            known, last = len(self.codes), True
        self.block = min(2 * self.block, self.longest)
        return self._render(self.done + size, known=known, last=last)

    def _render(self, end: int, *, known: int, last: bool) -> Tensor:
        """Frames done..end -> samples (N), by the first `known` frames; last: they are all."""
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
        self.done = end
        return self.gain(block, self.next, expected=self.level(whole[skipped:])).cpu()

    def _mel(self, first: int, *, known: int) -> tuple[Tensor, int]:
        """The mel of the first `known` frames from about mel frame `first` on, and how many frames before that it begins. Its
        frames up to the codec's reach before the end equal those of decoding all codes at once."""
        R, reach = self.codec.stride, self.codec.reach
        low = max(0, first // R - reach)
        return self.codec.decode(torch.stack(self.codes[low:known])[None])[0], first - low * R


class TextSynthesizer:
    """The blocks of a text's sentences in order: a `BlockSynthesizer` each, one gain for all, and pauses between them.

    Codes are those of the last sentence that was begun; earlier ones may have blocks to render still.
    """

    def __init__(self, codec: Codec, vocoder: StreamingVocoder) -> None:
        self.codec, self.vocoder = codec, vocoder
        self.gain: RunningPeakGain | None = None
        self.sentences: deque[BlockSynthesizer] = deque()  # with codes to come, or blocks to render
        self.pause = torch.zeros(round(PAUSE_SECONDS * vocoder.spec.sample_rate))
        self.rendered = 0  # samples

    def begin(self) -> None:
        """Begin a sentence; the one before it has ended."""
        self.sentences.append(BlockSynthesizer(self.codec, self.vocoder, gain=self.gain))
        self.gain = self.sentences[-1].gain

    def add(self, codes: Tensor) -> None:
        """Append codes (n, K) to the sentence."""
        self.sentences[-1].add(codes)

    def end(self) -> None:
        """The sentence is complete."""
        self.sentences[-1].end()

    @property
    def ready(self) -> bool:
        """True if a block is complete."""
        return bool(self.sentences) and self.sentences[0].ready

    def render(self) -> Tensor:
        """The next block (N); the first one of a sentence that follows another begins with the pause."""
        sentence = self.sentences[0]
        pause = self.rendered > 0 and sentence.done == 0
        block = sentence.render()
        if sentence.closed and sentence.done == len(sentence.codes):
            self.sentences.popleft()
        self.rendered += len(block) + (len(self.pause) if pause else 0)
        return torch.cat([self.pause, block]) if pause else block


def synthesize_stream(
    sentences: Iterable[Iterable[Tensor]], codec: Codec, vocoder: StreamingVocoder
) -> Iterator[Tensor]:
    """Sentences as frames of codes (K) one by one -> blocks (N) of the waveform, each as soon as its look-ahead is complete."""
    synthesizer = TextSynthesizer(codec, vocoder)
    for sentence in sentences:
        synthesizer.begin()
        for frame in sentence:
            synthesizer.add(frame[None])
            while synthesizer.ready:
                yield synthesizer.render()
        synthesizer.end()
        while synthesizer.ready:
            yield synthesizer.render()


def synthesize(sentences: Iterable[Tensor], codec: Codec, vocoder: StreamingVocoder) -> Tensor:
    """Codes (T, K) of each sentence -> waveform (N): the joined blocks of `synthesize_stream`."""
    return torch.cat(list(synthesize_stream(sentences, codec, vocoder)))
