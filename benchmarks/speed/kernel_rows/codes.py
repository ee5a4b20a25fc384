"""Residual vector quantisation, with vector-quantize-pytorch's on the same codebooks.

Legend: B clips, T frames, D width, K codebooks.
"""

import torch
from torch import Tensor

from benchmarks.speed.decoders import network
from benchmarks.speed.kernel_rows.contest import (
    Contest,
    count_flops,
    inference,
    largest_difference,
    missing,
    share_unequal,
)
from muomni.nn.rvq import ResidualQuantizer

PEER = "vector-quantize-pytorch"
CLIPS, FRAMES = 16, 256


def _parts(size: str) -> tuple[ResidualQuantizer, Tensor, object | None, dict[str, str]]:
    """Our quantiser, its input (B, T, D), the peer or None, and why it is absent."""
    ours = network("codec", size).quantizer
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(CLIPS, FRAMES, ours.codebooks.shape[2], generator=generator) / ours.codebooks.shape[2] ** 0.5
    why = missing("vector_quantize_pytorch")
    return ours, x, None if why else peer_of(ours), {PEER: why} if why else {}


def peer_of(ours: ResidualQuantizer) -> torch.nn.Module:
    """The peer with our codebooks."""
    from vector_quantize_pytorch import ResidualVQ

    K, E, D = ours.codebooks.shape
    peer = ResidualVQ(dim=D, codebook_size=E, num_quantizers=K).eval()
    for layer, codebook in zip(peer.layers, ours.codebooks, strict=True):
        layer._codebook.embed.data.copy_(codebook[None])
        layer._codebook.initted.fill_(True)
    return peer


def _case(ours: ResidualQuantizer) -> str:
    K, E, D = ours.codebooks.shape
    return f"{CLIPS * FRAMES} vectors of {D}, {K} codebooks of {E}"


def rvq_encode(size: str) -> Contest:
    """Vectors -> codes."""
    ours, x, peer, absent = _parts(size)
    return Contest(
        case=_case(ours), ours=inference(ours.encode, x), absent=absent,
        peers={} if peer is None else {PEER: inference(lambda: peer(x)[1])},  # type: ignore[operator]
        difference=share_unequal, tolerance=1e-4, flops=count_flops(inference(ours.encode, x)), aim=15.0,
    )  # fmt: skip


def rvq_decode(size: str) -> Contest:
    """Codes -> vectors; at least each vector is written and each code read."""
    ours, x, peer, absent = _parts(size)
    codes = inference(ours.encode, x)().clone()
    call = None if peer is None else peer.get_output_from_indices  # type: ignore[attr-defined]
    return Contest(
        case=_case(ours), ours=inference(ours.decode, codes), absent=absent,
        peers={} if call is None else {PEER: inference(call, codes)},
        difference=largest_difference, tolerance=1e-5, read=x.nbytes + codes.nbytes, aim=80.0,
    )  # fmt: skip
