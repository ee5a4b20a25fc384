"""The audio encoder: log-mel -> hidden states at 25 or 12.5 Hz, with a CTC head for characters.

Two (or three) stride-2 convolutions, then pre-norm bidirectional transformer blocks, optionally with a depthwise
convolution each (in the spirit of the Conformer, Gulati et al. 2020, arXiv:2005.08100); CTC: Graves et al. 2006. With
`chunk` the blocks take chunks of frames and a bounded right context (nn/chunked.py), and audio_stream.py runs the encoder while
the speech arrives. The stem needs no change for it: an output frame depends on its own mel frames and on R - 1 before them.

Legend: B batch, T frames, M mel bins, T' = ceil(T / downsample), D width, S symbols.
"""

from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn

from muomni.models.outputs import AudioOutput
from muomni.models.registry import check_characters, register
from muomni.nn.attention import Attention
from muomni.nn.chunked import ChunkMask, Chunks
from muomni.nn.context import AttentionContext
from muomni.nn.conv import AudioStem, ConvBlock, Length, frame_mask
from muomni.nn.initialise import initialise
from muomni.nn.masks import PaddingMask
from muomni.nn.mlp import GeluMLP
from muomni.nn.rope import Rope
from muomni.nn.transformer import Block, Transformer, TransformerOutput, stack


class AudioEncoder(nn.Module):
    """Stem, blocks and final norm. chunks: None: a frame attends to all others."""

    def __init__(
        self, stem: AudioStem, rope: Rope | None, transformer: Transformer, *, chunks: Chunks | None = None
    ) -> None:
        super().__init__()
        self.stem, self.rope, self.transformer, self.chunks = stem, rope, transformer, chunks

    def forward(self, mel: Tensor, lengths: Tensor | None, *, after_blocks: Collection[int] = ()) -> TransformerOutput:
        """mel (B, T, M) -> hidden (B, T', D); lengths (B) of valid mel frames, None when all are. after_blocks: see
        `Transformer`."""
        x = self.stem(mel, lengths)
        if self.chunks is not None:
            return self._by_chunks(x, lengths, self.chunks, after_blocks)
        mask = None if lengths is None else PaddingMask(frame_mask(self.stem.out_lengths(lengths), x.shape[1]))
        rope = None if self.rope is None else self.rope(torch.arange(x.shape[1], device=x.device))
        return self.transformer(x, AttentionContext(rope, mask), after_blocks=after_blocks)

    def _by_chunks(
        self, x: Tensor, lengths: Tensor | None, chunks: Chunks, after_blocks: Collection[int]
    ) -> TransformerOutput:
        """The stem's x (B, T', D) -> hidden (B, T', D); lengths (B) of mel frames."""
        T = x.shape[1]
        mask = ChunkMask.of(chunks, None if lengths is None else self.stem.out_lengths(lengths), T, x.device)
        rope = None if self.rope is None else self.rope(mask.frames)
        output = self.transformer(mask.spread(x), AttentionContext(rope, mask), after_blocks=after_blocks)
        intermediate = [mask.gather(each, T) for each in output.intermediate]
        return output._replace(hidden=mask.gather(output.hidden, T), intermediate=intermediate)


@register("audio")
class Audio(nn.Module):
    """Encoder and CTC head.

    Args:
        n_mels: M. num_symbols: S, the blank included. channels: of the stem. downsample: 4 (25 Hz) or 8 (12.5 Hz).
        dim, num_layers, num_heads, ff_dim: shape of the blocks. conv_kernel: of the depthwise convolutions, 0 is none.
        rope_theta: base of the rotary positions, None for no positions at all (the published reference). dropout.
        characters: of the head, after the blank and before one for all others; None: the standard ones.
        chunk, right_context, left_context: encoder frames that are computed at once, and those after and before them (None: all)
            that these attend to, for streams; chunk=0: every frame attends to all.
    """

    def __init__(
        self,
        *,
        n_mels: int,
        num_symbols: int,
        channels: int,
        downsample: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
        conv_kernel: int,
        rope_theta: float | None = 10000.0,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        characters: str | None = None,
        chunk: int = 0,
        right_context: int = 0,
        left_context: int | None = None,
    ) -> None:
        super().__init__()
        check_characters(characters, num_symbols=num_symbols, others=1)
        self.characters = characters
        self.n_mels, self.num_symbols, self.dim, self.downsample = n_mels, num_symbols, dim, downsample
        stem = AudioStem(n_mels=n_mels, channels=channels, dim=dim, downsample=downsample)
        rope = None if rope_theta is None else Rope(dim // num_heads, theta=rope_theta)
        attention = partial(Attention, heads=num_heads, kv_heads=num_heads, causal=False, bias=True)
        mlp, block = partial(GeluMLP, hidden=ff_dim), partial(ConvBlock, kernel=conv_kernel) if conv_kernel else Block
        transformer = stack(
            num_layers, dim, attention=attention, mlp=mlp, dropout=dropout, norm_eps=norm_eps, block=block
        )
        if not chunk and (right_context or left_context is not None):
            raise ValueError("right_context= and left_context= are of an encoder that reads in chunks: give chunk= too")
        chunks = Chunks(chunk, right_context, left_context) if chunk else None
        self.encoder = AudioEncoder(stem, rope, transformer, chunks=chunks)
        initialise(transformer, num_layers=num_layers)
        self.head = nn.Linear(dim, num_symbols)

    def out_lengths(self, lengths: Length) -> Length:
        """Encoder frames of so many mel frames."""
        return self.encoder.stem.out_lengths(lengths)

    def forward(self, mel: Tensor, lengths: Tensor | None = None, *, after_blocks: Collection[int] = ()) -> AudioOutput:
        """mel (B, T, M) log-mel at 100 Hz; lengths (B) of valid frames, default all -> AudioOutput at T'. after_blocks:
        numbers of blocks, from 1, after which the head writes too (`intermediate`; Lee & Watanabe 2021, arXiv:2102.03216).

        Frames beyond a row's length may be anything; a valid frame never depends on them.
        """
        B, T, _ = mel.shape
        states = self.encoder(mel, lengths, after_blocks=after_blocks)
        valid = torch.full((B,), T, device=mel.device) if lengths is None else lengths
        return AudioOutput(
            hidden=states.hidden,
            lengths=self.out_lengths(valid),
            logits=self.head(states.hidden),
            intermediate=[self.head(each) for each in states.intermediate],
        )
