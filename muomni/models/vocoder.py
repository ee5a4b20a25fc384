"""The vocoder: log-mel -> waveform, by ConvNeXt blocks at the frame rate and one inverse Fourier transform a frame (Vocos,
Siuzdak 2023, arXiv:2306.00814): no layer ever runs at the sample rate, so that it is fast on a CPU.

Legend: B batch, T mel frames, M mel bins, F = n_fft / 2 + 1 frequencies, N = T x hop samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.models.codec import ConvNeXtStack
from muomni.models.outputs import VocoderOutput
from muomni.models.registry import register
from muomni.nn.overlap_add import overlap_add

LARGEST_LOG = 5.0  # of a predicted magnitude: e^5 = 148 is beyond a full-scale sine under any window used here
#: Frequencies are padded to a multiple of it: the last few numbers of a tensor are computed by another function of the library,
#: whose last bit differs, and a frame is not to depend on how many others there are.
VECTOR = 64


class FourierHead(nn.Module):
    """Log magnitudes and phases of T frames -> N samples. Frame t covers the samples around (t + 1/2) x hop.

    Args:
        hop: samples between frames. overlap: frames that cover each sample; n_fft = overlap x hop.
    """

    window: Tensor

    def __init__(self, *, hop: int, overlap: int) -> None:
        super().__init__()
        if overlap < 2 or overlap % 2:
            raise ValueError(f"vocoder: overlap must be even, 2 or more, not {overlap}")
        self.hop, self.overlap, self.n_fft = hop, overlap, overlap * hop
        window = torch.hann_window(self.n_fft, device="cpu")  # explicit: as in nn/rope.py
        self.register_buffer("window", window, persistent=False)

    def frames(self, log_magnitude: Tensor, phase: Tensor) -> Tensor:
        """log_magnitude, phase (B, T, F) -> windowed samples (B, T, n_fft), float32, which `overlap_add` sums."""
        frequencies = log_magnitude.shape[-1]
        whole = F.pad(log_magnitude.float(), (0, -frequencies % VECTOR)).clamp_max(LARGEST_LOG)
        magnitude = whole.exp()[..., :frequencies]
        return torch.fft.irfft(torch.polar(magnitude, phase.float()), n=self.n_fft) * self.window

    def forward(self, log_magnitude: Tensor, phase: Tensor) -> Tensor:
        """log_magnitude, phase (B, T, F) -> waveform (B, N), float32."""
        T = phase.shape[1]
        frames = self.frames(log_magnitude, phase)
        overlap = overlap_add(self.window.square().expand(1, T, -1), hop=self.hop)
        edge = (self.n_fft - self.hop) // 2
        inside = slice(edge, edge + T * self.hop)
        return overlap_add(frames, hop=self.hop)[:, inside] / overlap[:, inside]


@register("vocoder")
class Vocoder(nn.Module):
    """Backbone and head.

    Args:
        n_mels: M. hop: samples a mel frame. overlap: of the head. width, num_layers, kernel, ff_dim: of the ConvNeXt blocks.
    """

    def __init__(
        self, *, n_mels: int, hop: int, overlap: int, width: int, num_layers: int, kernel: int, ff_dim: int
    ) -> None:
        super().__init__()
        self.head = FourierHead(hop=hop, overlap=overlap)
        self.backbone = ConvNeXtStack(
            inputs=n_mels, outputs=self.head.n_fft + 2, width=width, num_layers=num_layers, kernel=kernel, ff_dim=ff_dim
        )

        self.reach = num_layers * (kernel // 2) + overlap // 2
        """Frames on each side of a frame that its samples depend on."""

    def forward(self, mel: Tensor) -> VocoderOutput:
        """mel (B, T, M), normalised logs -> waveform (B, T x hop)."""
        log_magnitude, phase = self.backbone(mel, keep=None).chunk(2, dim=-1)
        return VocoderOutput(waveform=self.head(log_magnitude, phase))
