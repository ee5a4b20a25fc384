"""Streaming synthesis of several sentences: codes -> waveform, block by block (blocks.py), with pauses between the sentences.

Shapes: T frames of codes, K codebooks, N samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from muomni.inference.tts.blocks import BlockSynthesizer
from muomni.inference.tts.speech_decoder import SpeechDecoder

PAUSE_SECONDS = 0.2  # between two sentences


class TextSynthesizer:
    """The blocks of a text's sentences in order: a `BlockSynthesizer` each, and pauses between them.

    Codes are those of the last sentence that was begun; earlier ones may have blocks to render still.
    """

    def __init__(self, decoder: SpeechDecoder) -> None:
        self.decoder = decoder
        self._latest: BlockSynthesizer | None = None
        self.sentences: deque[BlockSynthesizer] = deque()  # with codes to come, or blocks to render
        self.pause = torch.zeros(round(PAUSE_SECONDS * decoder.sample_rate))
        self.rendered = 0  # samples

    def begin(self) -> None:
        """Begin a sentence; the one before it has ended."""
        self._latest = self.decoder.blocks(after=self._latest)
        self.sentences.append(self._latest)

    def add(self, codes: Tensor) -> None:
        """Append codes (n, K) to the sentence."""
        self.sentences[-1].add(codes)

    def end(self) -> None:
        """The sentence is complete."""
        self.sentences[-1].end()

    @property
    def begun(self) -> bool:
        """True if there was a sentence."""
        return self._latest is not None

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


def synthesize_stream(sentences: Iterable[Iterable[Tensor]], decoder: SpeechDecoder) -> Iterator[Tensor]:
    """Sentences as frames of codes (K) one by one -> blocks (N) of the waveform, each as soon as its look-ahead is complete."""
    synthesizer = TextSynthesizer(decoder)
    for sentence in sentences:
        synthesizer.begin()
        for frame in sentence:
            synthesizer.add(frame[None])
            while synthesizer.ready:
                yield synthesizer.render()
        synthesizer.end()
        while synthesizer.ready:
            yield synthesizer.render()


def synthesize(sentences: Iterable[Tensor], decoder: SpeechDecoder) -> Tensor:
    """Codes (T, K) of each sentence -> waveform (N): the joined blocks of `synthesize_stream`."""
    return torch.cat(list(synthesize_stream(sentences, decoder)))
