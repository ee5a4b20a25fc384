"""A codec of waveforms from random weights, cheap on a CPU: no layer ever runs at the sample rate.

Encoder: log magnitudes of short Fourier transforms, R of them a frame of codes, and causal ConvNeXt blocks. Decoder: such blocks
at the rate of codes, then at that of the transforms, and one inverse transform for each (Vocos, Siuzdak 2023, arXiv:2306.00814).
Between them a residual quantizer (SoundStream, Zeghidour et al. 2021, arXiv:2107.03312) or a finite scalar one.

Transform t of both sides covers the samples from t h on. So the encoder looks (overlap - 1) h samples past the end of a frame,
and the decoder past nothing: the samples of a frame are complete with its codes. Before the first frame the decoder computes a
few of silence, whose transforms reach into it, so that all samples have the same overlap.

Legend: B batch, N samples, T frames of codes, H samples a frame, R transforms a frame, h = H / R, F = overlap h / 2 + 1
frequencies, D width of a code vector, K codebooks, n <= K of them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.models.outputs import WaveformCodecOutput
from muomni.models.registry import register
from muomni.models.vocoder import FourierHead
from muomni.models.waveform_codec import DecoderState, WaveformCodec
from muomni.nn.causal import CausalBlock, State, by_rows
from muomni.nn.conv import frame_mask
from muomni.nn.fsq import FiniteScalarQuantizer
from muomni.nn.norm import RMSNorm
from muomni.nn.overlap_add import overlap_add
from muomni.nn.rvq import ResidualQuantizer

FLOOR = 1e-5  # of magnitudes before the log
LOG_MEAN, LOG_STD = -8.0, 2.0  # of log magnitudes of speech, about
QUANTIZERS = ("rvq", "fsq")


class CausalStack(nn.Module):
    """Frames of `inputs` numbers -> width W, causal blocks, norm, -> frames of `outputs` numbers."""

    def __init__(self, *, inputs: int, outputs: int, width: int, num_layers: int, kernel: int, ff_dim: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(CausalBlock(width, kernel=kernel, hidden=ff_dim) for _ in range(num_layers))
        self.norm = RMSNorm(width, eps=1e-5)
        self.proj_out = nn.Linear(width, outputs)

    def forward(self, x: Tensor, *, state: State, name: str) -> Tensor:
        """x (B, T, inputs) -> (B, T, outputs). name: of its entries in the state."""
        x = by_rows(self.proj_in, x)
        for number, block in enumerate(self.blocks):
            x = block(x, state=state, name=f"{name}.{number}")
        return by_rows(self.proj_out, self.norm(x))


@register("fourier_codec")
class FourierCodec(WaveformCodec):
    """See `WaveformCodec`; encoded piece by piece, too.

    Args:
        sample_rate: in Hz. hop: H. stride: R, a divisor of H. overlap: transforms that cover each sample, even, 4 or more.
        quantizer: rvq, fsq. dim: D. num_codebooks: K. codebook_size: entries of each.
        num_layers: blocks at the rate of codes on each side. frame_layers: of the decoder at the rate of transforms.
        width, kernel, ff_dim: of all blocks. decay, dropout, idle: see `ResidualQuantizer`; of fsq dropout alone.
    """

    name = "fourier"

    def __init__(
        self,
        *,
        sample_rate: int,
        hop: int,
        stride: int,
        overlap: int,
        quantizer: str,
        dim: int,
        num_codebooks: int,
        codebook_size: int,
        num_layers: int,
        frame_layers: int,
        width: int,
        kernel: int,
        ff_dim: int,
        decay: float | None,
        dropout: float,
        idle: float,
    ) -> None:
        super().__init__()
        if hop % stride:
            raise ValueError(f"codec.hop={hop}: a multiple of codec.stride={stride} is needed")
        if overlap < 4 or overlap % 2:
            raise ValueError(f"codec.overlap={overlap}: an even number, 4 or more, is needed")
        if quantizer not in QUANTIZERS:
            raise ValueError(f"codec.quantizer={quantizer}: available are {', '.join(QUANTIZERS)}")
        self.sample_rate, self.hop, self.stride = sample_rate, hop, stride
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.head = FourierHead(hop=hop // stride, overlap=overlap)
        shape = {"width": width, "kernel": kernel, "ff_dim": ff_dim}
        numbers = self.head.n_fft + 2
        self.encoder = CausalStack(inputs=stride * numbers // 2, outputs=dim, num_layers=num_layers, **shape)
        sizes = {"dim": dim, "num_codebooks": num_codebooks, "codebook_size": codebook_size, "dropout": dropout}
        self.quantizer: ResidualQuantizer | FiniteScalarQuantizer
        if quantizer == "rvq":
            self.quantizer = ResidualQuantizer(**sizes, decay=decay, idle=idle)  # type: ignore[arg-type]
        else:
            self.quantizer = FiniteScalarQuantizer(**sizes)  # type: ignore[arg-type]
        self.decoder = CausalStack(inputs=dim, outputs=stride * width, num_layers=num_layers, **shape)
        self.synthesis = CausalStack(inputs=width, outputs=numbers, num_layers=frame_layers, **shape)

    @property
    def look_ahead(self) -> int:
        """Samples after a frame that its codes depend on."""
        return self.head.n_fft - self.head.hop

    def code_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of codes of clips of so many samples: ceil(length / H)."""
        return -(-lengths // self.hop)

    def _latent(self, samples: Tensor, *, state: State) -> Tensor:
        """samples (B, T H + look_ahead) -> (B, T, D)."""
        frames = samples.float().unfold(1, self.head.n_fft, self.head.hop) * self.head.window  # B T R n_fft
        sizes = torch.fft.rfft(frames).abs() * (4 / self.head.n_fft)  # a full-scale sine reads 1
        logs = (sizes.clamp_min(FLOOR).log() - LOG_MEAN) / LOG_STD
        folded = logs.unflatten(1, (-1, self.stride)).flatten(2)
        latent: Tensor = self.encoder(folded, state=state, name="encoder")
        return latent

    def _whole_frames(self, waveform: Tensor) -> Tensor:
        """(B, N) -> (B, T H + look_ahead), with zeros at the end."""
        return F.pad(waveform, (0, -waveform.shape[1] % self.hop + self.look_ahead))

    def _synthesize(self, latent: Tensor, *, state: DecoderState) -> Tensor:
        """latent (B, T, D) -> waveform (B, T H), float32, after the frames before it."""
        head = self.head
        silent = 0 if state else -(-(head.overlap - 1) // self.stride)
        x = self.decoder(F.pad(latent, (0, 0, silent, 0)), state=state, name="decoder")
        x = x.unflatten(-1, (self.stride, -1)).flatten(1, 2)  # B T R W
        frames = head.frames(*self.synthesis(x, state=state, name="synthesis").chunk(2, dim=-1))
        before, count = head.overlap - 1, frames.shape[1]
        past = state.get("frames")
        frames = F.pad(frames, (0, 0, before, 0)) if past is None else torch.cat([past, frames], dim=1)
        state["frames"] = frames[:, count:]
        samples = overlap_add(frames, hop=head.hop)[:, before * head.hop : (before + count) * head.hop]
        return samples[:, silent * self.hop :] * (8 / 3 / head.overlap)  # by the sum of squared windows

    def encode(self, waveform: Tensor) -> Tensor:
        return self.encode_block(waveform, state={}, last=True)

    def encode_block(self, waveform: Tensor, *, state: State, last: bool) -> Tensor:
        """The next samples (B, n) of a recording -> the codes (B, t, K) of the frames that they complete: those of `encode` on
        all of it. last: no more will come. state: the same table for all of a recording; empty before the first.
        """
        with torch.autocast(waveform.device.type, enabled=False):
            samples = torch.cat([state["samples"], waveform], dim=1) if "samples" in state else waveform
            if last:
                samples = self._whole_frames(samples)
            count = max(0, samples.shape[1] - self.look_ahead) // self.hop
            state["samples"] = samples[:, count * self.hop :]
            if not count:
                return torch.zeros(len(waveform), 0, self.num_codebooks, dtype=torch.long, device=waveform.device)
            inside = samples[:, : count * self.hop + self.look_ahead]
            return self.quantizer.encode(self._latent(inside, state=state))

    def decode(self, codes: Tensor) -> Tensor:
        return self.decode_block(codes, 0, codes.shape[1], state={})

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            latent = by_rows(lambda x: self.quantizer.decode(x), codes[:, begin:end])
            return self._synthesize(latent, state=state)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> WaveformCodecOutput:
        """waveform (B, N); lengths (B) of valid samples, default all -> the waveform rebuilt, of the same shape."""
        latent = self._latent(self._whole_frames(waveform), state={})
        keep = None if lengths is None else frame_mask(self.code_lengths(lengths), latent.shape[1])
        quantized = self.quantizer(latent, keep=keep)
        rebuilt = self._synthesize(quantized.quantized, state={})[:, : waveform.shape[1]]
        return WaveformCodecOutput(waveform=rebuilt, codes=quantized.codes, commitment=quantized.commitment)


def stacks(codec: FourierCodec) -> Sequence[tuple[CausalStack, int]]:
    """Its stacks, and how often each runs a frame of codes."""
    return (codec.encoder, 1), (codec.decoder, 1), (codec.synthesis, codec.stride)
