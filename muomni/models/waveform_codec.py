"""What a codec of waveforms is: waveform -> codes -> waveform, without a spectrogram and a vocoder between.

The Talker speaks through one as it does through the codec of mels (codec.py). Whole utterances are encoded and decoded by
`encode` and `decode`. Speech that is still being generated is decoded block by block by `decode_block`, whose samples are those
of `decode` on all codes: a block gets the codes of the frames around it, and what earlier blocks left in a state that the
caller owns.

Legend: B batch, N samples, T frames of codes, K codebooks, n <= K of them, H samples a frame.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

#: What the blocks of an utterance leave for the next one; empty before the first.
DecoderState = dict[str, Any]


class WaveformCodec(nn.Module):
    """Base of codecs of waveforms. A subclass sets the attributes and defines `encode` and `decode`.

    name: for statistics. sample_rate: in Hz. hop: H. num_codebooks: K. codebook_size: entries of each.
    past, ahead: frames of codes before and after a block that `decode_block` needs. first_frames: fewest frames of a first
    block that is not the whole utterance.
    """

    name: str
    sample_rate: int
    hop: int
    num_codebooks: int
    codebook_size: int
    past: int = 0
    ahead: int = 0
    first_frames: int = 1

    @property
    def frame_rate(self) -> float:
        """Frames of codes a second."""
        return self.sample_rate / self.hop

    def check_codebooks(self, count: int) -> None:
        """Raise ValueError where `decode` cannot be given the first `count` codebooks alone."""
        if count > self.num_codebooks:
            raise ValueError(f"{self.name} has {self.num_codebooks} codebooks, not {count}")

    def encode(self, waveform: Tensor) -> Tensor:
        """waveform (B, N) at `sample_rate` -> codes (B, ceil(N / H), K)."""
        raise TypeError(f"{type(self).__name__} does not define encode")

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, T, n) of the first n codebooks -> waveform (B, T H)."""
        raise TypeError(f"{type(self).__name__} does not define decode")

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        """The waveform (1, (end - begin) H) of the frames begin..end of codes (1, T, n).

        codes: from `past` frames before the block on (from the first one if there are fewer) up to `ahead` frames after it (up
        to the last one of the utterance if there are fewer). Blocks of an utterance follow each other; state: the same table
        for all of them.
        """
        return self.decode(codes)[:, begin * self.hop : end * self.hop]


def convolutions(module: nn.Module) -> list[nn.Conv1d | nn.ConvTranspose1d]:
    """The convolutions of a module in the order of their registration."""
    return [each for each in module.modules() if isinstance(each, nn.Conv1d | nn.ConvTranspose1d)]


def receptive_field(layers: Iterable[nn.Conv1d | nn.ConvTranspose1d], *, causal: bool) -> int:
    """An upper bound of the inputs before an output's own on which it depends; where not causal, also of those after it.

    layers: a chain of convolutions. causal: padded on the left alone, otherwise on both sides alike.
    """
    reach = 0
    for layer in reversed(list(layers)):
        span = (layer.kernel_size[0] - 1) * layer.dilation[0]
        if isinstance(layer, nn.ConvTranspose1d):
            reach = -(-(reach + span) // layer.stride[0])
        else:
            reach = reach * layer.stride[0] + (span if causal else -(-span // 2))
    return reach
