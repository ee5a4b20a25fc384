"""Waveform -> mel spectrogram, at any hop: 100 Hz for the audio encoder and the codec, 12.5 Hz for the reference codec.

Frames are centred and exactly floor(N / hop) (a plain centred STFT gives one more). The border is padded by zeros, so
that zero padding at the end of a clip never changes one of its frames: a batch equals its clips one by one.

The magnitude is divided by half the window's sum: a full-scale sine reads 1 whatever n_fft and window are, and one pair
of constants brings the log to about zero mean and unit variance.

Not torchaudio's MelSpectrogram: it mirrors the border and gives the one frame more, so a clip in a padded batch is another clip.

Encoders trained elsewhere take other inputs in the mel's place (`MelSpec.kind`): `pretrained_audio.py`.

Shapes: B clips, N samples, T frames, M mel bins, F = n_fft // 2 + 1 frequencies.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from muomni.nn.constants import Constants

LOG_MEAN = -7.0  # of log mel magnitudes of speech, measured over recorded and synthetic voices
LOG_STD = 2.0
LONGEST_PIECE = 6000  # frames whose spectrum is held at a time
BANDS = 8  # groups of bins, whose filters are zero at most frequencies: an eighth of the products
CACHED_PIECE = 512  # the same on a CPU, of one clip: what its cache holds takes half of the time
KINDS = ("log_mel", "whisper", "waveform", "unit_waveform")
#: Of what exports of before do not say; such a value is not written, so that their metadata stay equal to today's.
UNSAID = {"kind": "log_mel", "window": None}


@dataclass(frozen=True, kw_only=True)
class MelSpec:
    """What a mel spectrogram is made of. Saved with every export; two specs that differ do not mix."""

    sample_rate: int  # Hz
    hop: int  # samples between frames
    n_fft: int  # samples of a transform
    win: int  # samples of the Hann window, at most n_fft
    bins: int  # M
    f_min: float  # Hz
    f_max: float  # Hz, at most half the sample rate
    log: bool  # scaled log magnitudes, or plain magnitudes
    floor: float  # the smallest magnitude before the log
    kind: str = "log_mel"  # this file's; the others: pretrained_audio.py
    window: int | None = None  # of whisper: samples of a window, which is normalised by itself and padded to its length

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"mel: unknown kind {self.kind!r}; available: {', '.join(KINDS)}")
        if (self.kind == "whisper") != (self.window is not None):
            raise ValueError(f"mel: kind={self.kind} window={self.window}: whisper has a window, and it alone")
        if self.window is not None and (self.window < self.n_fft or self.window % self.hop):
            raise ValueError(f"mel: window={self.window} is no multiple of hop={self.hop}, or shorter than n_fft")
        if not 0 < self.hop <= self.win <= self.n_fft:
            raise ValueError(
                f"mel: 0 < hop <= win <= n_fft is needed, not hop={self.hop} win={self.win} n_fft={self.n_fft}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"mel: 0 <= f_min < f_max <= {self.sample_rate / 2} is needed, not {self.f_min}, {self.f_max}"
            )
        if self.floor <= 0:
            raise ValueError(f"mel: floor must be above 0, not {self.floor}")

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    def metadata(self) -> dict[str, int | float | bool]:
        """The spec as plain values, for an export and for comparing."""
        return {key: value for key, value in asdict(self).items() if key not in UNSAID or value != UNSAID[key]}

    def num_frames(self, samples: int) -> int:
        """Frames of a clip of so many samples."""
        if self.kind == "whisper":  # all frames that reach into the clip; the window's others are silence
            assert self.window is not None
            whole, rest = divmod(samples, self.window)
            last = min(self.window // self.hop, (rest + self.n_fft // 2 - 1) // self.hop + 1) if rest else 0
            return whole * (self.window // self.hop) + last
        if self.kind != "log_mel":  # frames of `win` samples, which overlap where win > hop
            return max(0, (samples - self.win) // self.hop + 1)
        return samples // self.hop

    @property
    def shortest(self) -> int:
        """Samples of the shortest clip that has a frame."""
        return self.hop if self.kind in ("log_mel", "whisper") else self.win


def mel_filters(spec: MelSpec) -> Tensor:
    """Triangular mel filters (F, M). Raises ValueError where n_fft is too small, so that a filter would be empty."""
    filters: Tensor = torchaudio.functional.melscale_fbanks(
        spec.n_fft // 2 + 1, spec.f_min, spec.f_max, spec.bins, spec.sample_rate, norm=None, mel_scale="slaney"
    )
    empty = int((filters.sum(0) == 0).sum())
    if empty:
        raise ValueError(
            f"mel: {empty} of {spec.bins} filters are empty at n_fft={spec.n_fft}; raise n_fft or lower bins"
        )
    return filters


def normalise_log(magnitude: Tensor, floor: float) -> Tensor:
    """Magnitudes -> log, scaled to about zero mean and unit variance."""
    return (magnitude.clamp_min(floor).log() - LOG_MEAN) / LOG_STD


def denormalise_log(mel: Tensor) -> Tensor:
    """The inverse of `normalise_log`."""
    return (mel * LOG_STD + LOG_MEAN).exp()


def check_mel(mel: Tensor, spec: MelSpec, *, where: str) -> None:
    """Raises ValueError for what no vocoder can make audible: a mel that is not (T, M) or (B, T, M) with T > 0, or holds
    NaN or Inf. where: names the vocoder in the error."""
    if mel.dim() not in (2, 3) or mel.shape[-1] != spec.bins or mel.shape[-2] == 0:
        raise ValueError(f"{where}: a mel (T, {spec.bins}) with T > 0 is needed, not {tuple(mel.shape)}")
    if not bool(torch.isfinite(mel).all()):
        raise ValueError(f"{where}: the mel holds NaN or Inf; it cannot be made audible")


def check_waveform(waveform: Tensor, spec: MelSpec) -> None:
    """Raise ValueError for a clip shorter than one frame, for samples that are not finite, and for another shape."""
    if waveform.dim() not in (1, 2):
        raise ValueError(f"mel: a waveform (N,) or (B, N) is needed, not the shape {tuple(waveform.shape)}")
    if waveform.shape[-1] < spec.shortest:
        size = f"{waveform.shape[-1]} samples at {spec.sample_rate} Hz"
        raise ValueError(f"the clip is too short: {size}, one frame needs {spec.shortest}")
    # A sum is finite only where all samples are, and takes a tenth of the time of looking at each.
    if not bool(torch.isfinite(waveform.sum())) and not bool(torch.isfinite(waveform).all()):
        raise ValueError("mel: the waveform holds NaN or Inf")


class LogMel:
    """Callable: waveform (N,) or (B, N) -> mel (T, M) or (B, T, M), T = floor(N / hop), float32."""

    def __init__(self, spec: MelSpec) -> None:
        if spec.kind != "log_mel":
            raise ValueError(f"mel: kind={spec.kind} is the input of an encoder alone; a log-mel is needed here")
        self.spec = spec
        self.filters = mel_filters(spec)  # F M
        self.window = torch.hann_window(spec.win)
        self.scale = 2.0 / float(self.window.sum())
        left = (spec.n_fft - spec.win) // 2
        padded = F.pad(self.window, (left, spec.n_fft - spec.win - left))
        self._constants = Constants(padded, self.filters)
        self._bands = [band(part) for part in (self.filters * self.scale).split(-(-spec.bins // BANDS), dim=1)]

    def __call__(self, waveform: Tensor) -> Tensor:
        """Raises ValueError for a clip shorter than one hop and for samples that are not finite."""
        self.check(waveform)
        mel = self.transform(waveform.float().reshape(-1, waveform.shape[-1]))
        return mel if waveform.dim() == 2 else mel[0]

    def check(self, waveform: Tensor) -> None:
        """What `__call__` raises."""
        check_waveform(waveform, self.spec)

    def transform(self, clips: Tensor) -> Tensor:
        """(B, N) float32, N at least one hop -> (B, T, M), without looking at what the clips hold: for losses."""
        mel = self.magnitudes(clips)
        return normalise_log(mel, self.spec.floor) if self.spec.log else mel

    def magnitudes(self, clips: Tensor) -> Tensor:
        """(B, N) float32 -> mel magnitudes (B, T, M), before any log; what is long is computed piece by piece, since the
        spectrum takes eight times the memory of its mel."""
        frames = self.spec.num_frames(clips.shape[1])
        if clips.device.type != "cpu" or clips.requires_grad:
            return self._by_pieces(clips, frames, LONGEST_PIECE)
        return torch.cat([self._by_pieces(clip, frames, CACHED_PIECE) for clip in clips.split(1)])

    def _by_pieces(self, clips: Tensor, frames: int, longest: int) -> Tensor:
        """`magnitudes`; longest: frames of a piece."""
        spec = self.spec
        if frames <= longest:
            return self._piece(clips, frames, center=True)
        half = spec.n_fft // 2
        padded = F.pad(clips, (half, half))  # as of a centred transform
        pieces = []
        for start in range(0, frames, longest):
            count = min(longest, frames - start)
            samples = padded[:, start * spec.hop : (start + count - 1) * spec.hop + spec.n_fft]
            pieces.append(self._piece(samples, count, center=False))
        return torch.cat(pieces, dim=1)

    def framed(self, samples: Tensor, frames: int) -> Tensor:
        """samples (B, (frames - 1) hop + n_fft), from n_fft / 2 before the first of so many frames -> their magnitudes."""
        return self._piece(samples, frames, center=False)

    def _piece(self, samples: Tensor, frames: int, *, center: bool) -> Tensor:
        """The first `frames` frames of (B, N): (B, frames, M), in float32 even under a stage's autocast."""
        spec = self.spec
        window, filters = self._constants.on(samples.device)
        if center:
            samples = F.pad(samples, (spec.n_fft // 2, spec.n_fft // 2))
        with torch.autocast(samples.device.type, enabled=False):
            # What torch.stft does, without a frame more and the work around it.
            sizes = _sizes(torch.fft.rfft(samples.unfold(1, spec.n_fft, spec.hop)[:, :frames] * window))  # B T F
            if sizes.device.type != "cpu" or sizes.requires_grad:
                return (sizes @ filters) * self.scale  # B T M
            return torch.cat([sizes[..., low:high] @ part for low, high, part in self._bands], dim=-1)


def band(filters: Tensor) -> tuple[int, int, Tensor]:
    """Filters (F, m) of neighbouring bins -> the frequencies that they read, first and after the last, and the filters there."""
    read = filters.any(dim=1).nonzero()[:, 0]
    low, high = int(read[0]), int(read[-1]) + 1
    return low, high, filters[low:high].contiguous()


def _sizes(spectrum: Tensor) -> Tensor:
    """Absolute values of complex numbers: a third of the time of `abs`, whose gradient is finite at 0, where that is needed."""
    if spectrum.requires_grad:
        return spectrum.abs()
    squares = torch.view_as_real(spectrum).square()  # of both parts at once, in the order of memory
    return torch.add(squares[..., 0], squares[..., 1]).sqrt_()
