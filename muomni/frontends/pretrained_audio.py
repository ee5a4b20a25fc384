"""What audio encoders that were trained elsewhere read, in the place of the mel: (T, M) of a clip, so that caches, batches and
lengths stay what they are.

- `whisper`: Whisper's log-mel (Radford et al. 2022, arXiv:2212.04356, section 2.2): power, Slaney's filters, log10, cut off 8
  decades below the loudest bin of the window, (x + 4) / 4. Whisper reads windows of 30 s, padded by silence; here a window's
  frames end with the last that reaches into the clip, and the encoder adds the others (models/hf_audio.py).
- `waveform`, `unit_waveform`: frames of raw samples for encoders that read these (wav2vec 2.0, HuBERT), one for each output
  frame of the encoder: `win` samples, the encoder's field of view, every `hop`. unit_waveform: zero mean and unit variance over
  the clip first.

Shapes: N samples, T frames, M mel bins, or `win` samples.
"""

import torch
import torchaudio
from torch import Tensor

from muomni.frontends.mel import LogMel, MelSpec, check_waveform

DYNAMIC_RANGE = 8.0  # decades


class WhisperMel:
    """Callable: waveform (N,) -> (T, M), as of transformers' WhisperFeatureExtractor."""

    def __init__(self, spec: MelSpec) -> None:
        self.spec = spec
        self.filters: Tensor = torchaudio.functional.melscale_fbanks(  # F M
            spec.n_fft // 2 + 1, spec.f_min, spec.f_max, spec.bins, spec.sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.window = torch.hann_window(spec.win)

    def __call__(self, waveform: Tensor) -> Tensor:
        """Raises ValueError as `check_waveform`."""
        self.check(waveform)
        assert self.spec.window is not None
        return torch.cat([self._window(samples) for samples in waveform.float().split(self.spec.window)])

    def check(self, waveform: Tensor) -> None:
        """What `__call__` raises."""
        _check_clip(waveform, self.spec)

    def _window(self, samples: Tensor) -> Tensor:
        """Up to a window's samples -> (T, M)."""
        spec = self.spec
        frames, half = spec.num_frames(len(samples)), spec.n_fft // 2
        assert spec.window is not None
        # Silence as far as frames reach into the clip, then mirrored at both ends, as a centred transform of the window is.
        padded = torch.nn.functional.pad(samples, (0, min(spec.window - len(samples), spec.n_fft)))
        padded = torch.nn.functional.pad(padded[None], (half, half), mode="reflect")
        spectrum = torch.stft(padded, spec.n_fft, spec.hop, spec.win, self.window, center=False, return_complex=True)[0]
        power = spectrum[:, :frames].abs().square()
        log = (self.filters.T @ power).clamp_min(spec.floor).log10()
        return ((torch.maximum(log, log.max() - DYNAMIC_RANGE) + 4.0) / 4.0).T.contiguous()


class WaveformFrames:
    """Callable: waveform (N,) -> (T, win): samples t * hop to t * hop + win of each frame t. What is left at the end, which the
    encoder has no frame for, is dropped."""

    def __init__(self, spec: MelSpec) -> None:
        if spec.bins != spec.win:
            raise ValueError(f"mel: kind={spec.kind} has a bin for each sample of a frame: bins=win, not {spec.bins}")
        self.spec = spec

    def __call__(self, waveform: Tensor) -> Tensor:
        """Raises ValueError as `check_waveform`."""
        self.check(waveform)
        samples = waveform.float()
        if self.spec.kind == "unit_waveform":
            samples = (samples - samples.mean()) / (samples.var(correction=0) + self.spec.floor).sqrt()
        return samples.unfold(0, self.spec.win, self.spec.hop).contiguous()

    def check(self, waveform: Tensor) -> None:
        """What `__call__` raises."""
        _check_clip(waveform, self.spec)


def _check_clip(waveform: Tensor, spec: MelSpec) -> None:
    if waveform.dim() != 1:
        raise ValueError(f"mel: kind={spec.kind} reads one clip (N,) at a time, not the shape {tuple(waveform.shape)}")
    check_waveform(waveform, spec)


def audio_frontend(spec: MelSpec) -> LogMel | WhisperMel | WaveformFrames:
    """The frontend of a spec. Raises ValueError for one that no encoder could read."""
    if spec.kind == "log_mel":
        return LogMel(spec)
    return WhisperMel(spec) if spec.kind == "whisper" else WaveformFrames(spec)
