"""Mel -> waveform without training: pseudo-inverse of the mel filters, then Griffin-Lim with momentum.

Griffin and Lim 1984; the accelerated form of Perraudin, Balazs and Sondergaard 2013. The phase starts from a fixed seed: the
same mel gives the same waveform. The phase search uses frames of the window's length (rounded up to a power of two), not of the
mel's zero-padded n_fft: half the work at n_fft 1024 for a window of 400.

Not torchaudio's GriffinLim: it has no way to keep the samples that were played already, which speech in blocks needs.

On a CPU clips are computed one by one, in place where that is possible: what a clip takes stays in the cache. A mel filter is
zero at most frequencies, so that products are of groups of bins, an eighth of the whole.

Shapes: B clips, T frames, M mel bins, F mel frequencies, R frequencies of the search, L its frame length, N = T x hop.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.frontends.loudness import SMALLEST, peak_normalise
from muomni.frontends.mel import BANDS, MelSpec, band, check_mel, denormalise_log, mel_filters
from muomni.nn.constants import Constants
from muomni.nn.overlap_add import overlap_add

MOMENTUM = 0.99
SHARPENING_STEPS = 8  # multiplicative updates that fit the magnitudes to the mel and keep them positive


class GriffinLim:
    """Callable: mel (T, M) or (B, T, M) of a `LogMel` of the same spec -> waveform (N,) or (B, N)."""

    name = "griffin_lim"

    def __init__(self, spec: MelSpec, *, iterations: int) -> None:
        if iterations < 1:
            raise ValueError(f"griffin_lim: iterations must be at least 1, not {iterations}")
        self.spec = spec
        self.iterations = iterations
        window = torch.hann_window(spec.win)
        self.scale = float(window.sum()) / 2.0
        self.length = min(spec.n_fft, 1 << (spec.win - 1).bit_length())  # L
        left = (self.length - spec.win) // 2
        self.window = F.pad(window, (left, self.length - spec.win - left))
        self.filters = mel_filters(spec)  # F M
        self.inverse = torch.linalg.pinv(self.filters, rtol=1e-5)  # M F
        overlap = self.filters.sum(dim=1)  # F
        # A frequency that no filter reads stays as it is: a share of 0 of the update, and all of itself.
        self.share = torch.where(overlap > 0, 1 / overlap.clamp_min(SMALLEST), 0.0)
        self.unread = (overlap <= 0).float()
        self._constants = Constants(self.window, self.filters, self.inverse, self.share, self.unread)
        self._bands = [band(part) for part in self.filters.split(-(-spec.bins // BANDS), dim=1)]
        # The other way round: the frequencies from where a group's begin on, and the bins that read them.
        borders = sorted({low for low, _, _ in self._bands})[1:]
        self._rows = [band(part.T) for part in self.filters.tensor_split(borders)]

    def __call__(self, mel: Tensor) -> Tensor:
        """Peak-normalised to 0.95; silence stays silence. Raises ValueError for a mel that is empty or not finite."""
        check_mel(mel, self.spec, where=self.name)
        batch = mel.detach().float()
        batch = batch if mel.dim() == 3 else batch[None]
        clips = batch.split(1) if batch.device.type == "cpu" else (batch,)
        samples = batch.shape[1] * self.spec.hop
        found = torch.cat([self._phase_search(self.magnitudes(clip), samples) for clip in clips])
        waveform = peak_normalise(found)
        return waveform if mel.dim() == 3 else waveform[0]

    @property
    def context(self) -> int:
        """Mel frames that `extend` needs on each side of a block: twice as many as overlap a sample."""
        return 2 * -(-self.length // self.spec.hop)

    def extend(self, mel: Tensor, past: Tensor, *, ends: bool) -> Tensor:
        """Continue a waveform that ends with the samples `past`, which the search keeps fixed, so that the new samples fit them
        (as in real-time inversion, Zhu, Beauregard and Wyse 2007).

        mel: (T, M), the frames of `past` and those after it. past: `context` hops of samples, or none at the beginning.
        ends: True if the utterance ends with the last frame; else that frame is look-ahead only and has no samples.
        Returns the samples after `past`, at the mel's level. Raises ValueError as a call does.
        """
        check_mel(mel, self.spec, where=self.name)
        hop, half = self.spec.hop, self.length // 2
        skipped = -(-half // hop) if len(past) else 0  # frames whose first half begins before `past`
        magnitude = self.magnitudes(mel[skipped:].detach().float()[None])
        magnitude = magnitude if ends else magnitude[:, :-1]
        known = past[skipped * hop - half :] if len(past) else past
        waveform = self._phase_search(magnitude, (magnitude.shape[1] - 1) * hop, past=known)
        return waveform[0, len(past) - skipped * hop :]

    def magnitudes(self, mel: Tensor) -> Tensor:
        """Mel (B, T, M) -> magnitudes (B, T + 1, R); the last frame is repeated, since `LogMel` drops one."""
        target = (denormalise_log(mel) if self.spec.log else mel.clamp_min(0.0)) * self.scale
        _, filters, inverse, share, unread = self._constants.on(mel.device)
        magnitude = (target @ inverse).clamp_min_(SMALLEST)  # B T F
        for _ in range(SHARPENING_STEPS):
            heard, spread = self._products(magnitude, filters)
            magnitude *= spread(target / heard.clamp_min_(SMALLEST)).mul_(share).add_(unread)
        bins = torch.arange(self.length // 2 + 1, device=mel.device) * (self.spec.n_fft / self.length)  # R
        below = bins.long().clamp_max(magnitude.shape[2] - 2)
        magnitude = torch.lerp(magnitude[..., below], magnitude[..., below + 1], bins - below)
        return torch.cat([magnitude, magnitude[:, -1:]], dim=1)

    def _products(self, magnitude: Tensor, filters: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """magnitude (B, T, F) -> what the filters read of it (B, T, M), and their product with such numbers (B, T, F)."""
        if magnitude.device.type != "cpu":
            return magnitude @ filters, lambda ratio: ratio @ filters.T
        read = torch.cat([magnitude[..., low:high] @ part for low, high, part in self._bands], dim=-1)
        return read, lambda ratio: torch.cat([ratio[..., low:high] @ part for low, high, part in self._rows], dim=-1)

    def _phase_search(self, magnitude: Tensor, samples: int, *, past: Tensor | None = None) -> Tensor:
        """Magnitudes (B, T, R) -> waveforms (B, samples) whose transforms approximate them. past: fixed samples, from half a
        frame before the first sample on."""
        B, T, R = magnitude.shape
        device, hop = magnitude.device, self.spec.hop
        (window, *_), half = self._constants.on(device), self.length // 2
        overlap = overlap_add((window * window).expand(1, T, -1), hop=hop)
        valid = torch.arange(overlap.shape[1], device=device)
        gain = ((valid >= half) & (valid < half + samples)) / overlap.clamp_min(1e-6)
        generator = torch.Generator().manual_seed(0)
        phase = 2 * torch.pi * torch.rand(T, R, generator=generator).to(device)  # the same for every row
        estimate = torch.polar(torch.ones_like(phase), phase).repeat(B, 1, 1)
        factor = MOMENTUM / (1 + MOMENTUM)
        previous, size = torch.zeros_like(estimate), torch.empty_like(magnitude)
        frames = magnitude.new_empty(B, T, self.length)
        for step in range(self.iterations + 1):
            torch.mul(estimate.real, estimate.real, out=size)
            size.addcmul_(estimate.imag, estimate.imag).clamp_min_(SMALLEST**2)
            estimate *= size.rsqrt_().mul_(magnitude)
            waveform = overlap_add(torch.fft.irfft(estimate, n=self.length).mul_(window), hop=hop).mul_(gain)
            if past is not None:
                waveform[:, : len(past)] = past
            if step < self.iterations:
                torch.mul(waveform.unfold(1, self.length, hop), window, out=frames)
                rebuilt = torch.fft.rfft(frames)
                torch.sub(rebuilt, previous, alpha=factor, out=estimate)
                previous = rebuilt
        return waveform[:, half : half + samples]
