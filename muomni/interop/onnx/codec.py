"""Graphs of the codec: log-mel -> codes, and codes -> log-mel.

Legend: B batch, T mel frames, R stride, T' rows of codes, M mel bins, K codebooks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.interop.onnx.spec import Graph, Port
from muomni.models.codec import Codec
from muomni.nn.conv import frame_mask


class CodecEncoderGraph(nn.Module):
    """mel (B, T, M), lengths (B) -> codes (B, T', K), lengths in rows of codes."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.codec.encode(mel, lengths), self.codec.code_lengths(lengths)


class CodecDecoderGraph(nn.Module):
    """codes (B, T', n) of the first n codebooks, lengths (B) -> mel (B, T' R, M)."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor]:
        """As `Codec.decode`, with a sum in place of an embedding bag, which ONNX lacks."""
        quantizer, stride = self.codec.quantizer, self.codec.stride
        offsets = torch.arange(codes.shape[2], device=codes.device) * quantizer.codebook_size
        x = F.embedding(codes + offsets, quantizer.codebooks.flatten(0, 1)).sum(2)
        x = self.codec.decoder(x, keep=frame_mask(lengths, codes.shape[1]))
        return (x.unflatten(2, (stride, -1)).flatten(1, 2),)


def codec_encoder_graph(codec: Codec) -> Graph:
    """Log-mel -> codes."""
    return Graph(
        name="codec_encoder",
        about=f"log-mel of codec_mel.onnx -> codes, ceil(frames / {codec.stride}) rows",
        module=CodecEncoderGraph(codec),
        inputs=[
            Port(
                name="mel", axes=("batch", "frames", codec.n_mels), about="of codec_mel.onnx; padding may be anything"
            ),
            Port(name="lengths", axes=("batch",), dtype="int64", about="frames of each row", low=1, high="frames"),
        ],
        outputs=[
            Port(
                name="codes",
                axes=("batch", "rows", codec.num_codebooks),
                dtype="int64",
                about="the coarsest codebook first",
            ),
            Port(name="code_lengths", axes=("batch",), dtype="int64", about="rows of each"),
        ],
        extra={"codebook_size": codec.codebook_size, "stride": codec.stride},
        exact=True,  # half precision changes a few of a hundred codes
    )


def codec_decoder_graph(codec: Codec) -> Graph:
    """Codes -> log-mel."""
    codes = Port(
        name="codes", axes=("batch", "rows", "codebooks"), dtype="int64",
        about=f"of the first of {codec.num_codebooks} codebooks", high=codec.codebook_size,
    )  # fmt: skip
    return Graph(
        name="codec_decoder",
        about=f"codes -> log-mel for a vocoder, {codec.stride} frames a row",
        module=CodecDecoderGraph(codec),
        inputs=[codes, Port(name="lengths", axes=("batch",), dtype="int64", about="rows of each", low=1, high="rows")],
        outputs=[Port(name="mel", axes=("batch", "frames", codec.n_mels), about="log-mel")],
        traced={"codebooks": codec.num_codebooks},
        checked={"codebooks": max(1, codec.num_codebooks - 1)},
    )
