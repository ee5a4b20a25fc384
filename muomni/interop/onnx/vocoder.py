"""Graph of the vocoder: log-mel -> waveform, as `NeuralVocoder` (inference/tts/vocoder.py) computes it, with its correction
towards the mel and its level.

Fourier transforms and the sum of overlapping frames are one convolution there, and one transposed convolution back.

Legend: B batch, T frames, M mel bins, F frequencies, N samples, W samples of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.frontends.loudness import PEAK, peak_normalise
from muomni.frontends.mel import MelSpec, denormalise_log, mel_filters
from muomni.inference.tts.mel_correction import MAX_GAIN, MOMENTUM
from muomni.interop.onnx.mel import fourier_basis
from muomni.interop.onnx.spec import Graph, Port
from muomni.models.vocoder import LARGEST_LOG, Vocoder


class InverseFourier(nn.Module):
    """Real and imaginary parts (B, 2 F, T) of frames -> their weighted mean where they overlap (B, N).

    Args:
        window: (W), float64, that frames are multiplied by. hop: samples between frames. n_fft: of the transform. cut: samples
            that are left out at both ends.
    """

    basis: Tensor
    square: Tensor

    def __init__(self, window: Tensor, *, hop: int, n_fft: int, cut: int, smallest: float) -> None:
        super().__init__()
        self.hop, self.cut, self.smallest = hop, cut, smallest
        basis = fourier_basis(window, n_fft=n_fft)  # 2 F W
        frequencies = n_fft // 2 + 1
        weight = torch.full((frequencies,), 2.0 / n_fft, dtype=window.dtype)
        weight[0] = weight[-1] = 1.0 / n_fft
        self.register_buffer("basis", (basis * weight.repeat(2)[:, None]).float()[:, None])
        self.register_buffer("square", window.square().float()[None, None])

    def forward(self, spectrum: Tensor) -> Tensor:
        total = F.conv_transpose1d(spectrum, self.basis, stride=self.hop, padding=self.cut)
        ones = torch.ones_like(spectrum[:, :1])
        return (
            total / F.conv_transpose1d(ones, self.square, stride=self.hop, padding=self.cut).clamp_min(self.smallest)
        )[:, 0]


class VocoderGraph(nn.Module):
    """mel (B, T, M) -> waveform (B, T x hop), peak-normalised."""

    forward_basis: Tensor
    filters: Tensor
    shares: Tensor

    def __init__(self, vocoder: Vocoder, spec: MelSpec, *, corrections: int) -> None:
        super().__init__()
        self.backbone, self.spec, self.corrections = vocoder.backbone, spec, corrections
        head, hop, win = vocoder.head, spec.hop, spec.win
        window = torch.hann_window(head.n_fft, dtype=torch.float64)
        self.head = InverseFourier(window, hop=hop, n_fft=head.n_fft, cut=(head.n_fft - hop) // 2, smallest=0.0)
        window = torch.hann_window(win, dtype=torch.float64)
        left = (spec.n_fft - win) // 2
        self.around = spec.n_fft // 2 - left  # samples of a window before the frame's middle
        if 2 * self.around != win:
            raise ValueError(f"vocoder: win={win} and n_fft={spec.n_fft} have no ONNX graph: both must be even")
        self.register_buffer("forward_basis", fourier_basis(window, n_fft=spec.n_fft).float()[:, None])
        self.inverse = InverseFourier(window, hop=hop, n_fft=spec.n_fft, cut=self.around, smallest=1e-6)
        filters = mel_filters(spec)
        overlap = filters.sum(dim=1, keepdim=True)
        self.register_buffer("filters", filters * (2.0 / float(window.sum())))
        self.register_buffer("shares", torch.where(overlap > 0, filters / overlap.clamp_min(1e-8), 0.0))

    def forward(self, mel: Tensor) -> tuple[Tensor]:
        log_magnitude, phase = self.backbone(mel, keep=None).chunk(2, dim=-1)
        magnitude = log_magnitude.clamp_max(LARGEST_LOG).exp()
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=2).mT
        return (peak_normalise(self.correct(self.head(spectrum), mel)),)

    def correct(self, waveform: Tensor, mel: Tensor) -> Tensor:
        """`MelCorrection`."""
        floor = self.spec.floor
        magnitude = denormalise_log(mel) if self.spec.log else mel
        target = magnitude.clamp_min(floor).log()
        target = torch.cat([target, target[:, -1:]], dim=1)
        previous: Tensor | None = None
        for _ in range(self.corrections):
            padded = F.pad(waveform, (self.around, self.around))[:, None]
            spectrum = F.conv1d(padded, self.forward_basis, stride=self.spec.hop)  # B 2F T+1
            ahead = spectrum if previous is None else spectrum + MOMENTUM * (spectrum - previous)
            previous = spectrum
            real, imaginary = ahead.chunk(2, dim=1)
            size = (real.square() + imaginary.square()).sqrt().mT  # B T+1 F
            current = (size @ self.filters).clamp_min(floor).log()
            gain = ((target - current).clamp(-MAX_GAIN, MAX_GAIN) @ self.shares.T).exp().mT
            waveform = self.inverse(torch.cat([real * gain, imaginary * gain], dim=1))
        return waveform


def vocoder_graph(vocoder: Vocoder, spec: MelSpec, *, corrections: int) -> Graph:
    """Log-mel -> waveform."""
    return Graph(
        name="vocoder",
        about=f"log-mel -> waveform at {spec.sample_rate} Hz, {spec.hop} samples a frame, with its peak at {PEAK}",
        module=VocoderGraph(vocoder, spec, corrections=corrections),
        inputs=[Port(name="mel", axes=("batch", "frames", spec.bins), about="of codec_decoder.onnx or codec_mel.onnx")],
        outputs=[Port(name="waveform", axes=("batch", "samples"), about="mono")],
        extra={"mel": spec.metadata()},
        exact=True,
    )
