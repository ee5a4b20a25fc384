"""`Hearing` of a waveform that arrives piece by piece: log-mel in steps, each levelled by what was heard up to its end.

The level of a voice is measured as in `Hearing`, in the frames that stand out of the background so far. Until enough of them do,
the voice is taken to be `MARGIN` above the background, so that noise alone is not brought to a voice's level. A frame keeps the
gain of its step. Pauses stay: whoever reads the mel decides where speech begins and ends.

How samples come does not matter: a step depends on its number of frames, and on those of the steps before.

Legend: N samples, T frames, M mel bins, G bands.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.frontends.hearing import LOUD, Hearing, decibels
from muomni.frontends.mel import LogMel, normalise_log
from muomni.frontends.voice_activity import BLOCK, QUANTILE, SHORTEST, band_power, speech_salience

MARGIN = 15.0  # dB between a voice that was not heard yet and the background


class LiveHearing:
    """The state of one utterance. Raises ValueError for an encoder that does not read a log-mel: its input is no sequence of
    frames."""

    def __init__(self, hearing: Hearing) -> None:
        if not isinstance(hearing.frontend, LogMel):
            raise ValueError(f"mel.kind={hearing.mel.kind} cannot be computed step by step: a log-mel is needed")
        self.hearing, self.log_mel, self.spec = hearing, hearing.frontend, hearing.mel
        self.samples = torch.zeros(0)  # from sample number `first` on
        self.first = 0
        self.received = 0
        self.taken = 0  # frames
        self.offset: float | None = None  # of the samples, the mean of the first step
        self.bands = torch.zeros(0, 0)  # (T, G) and, below, the power of talk (T) of the last frames
        self.power = torch.zeros(0)

    def push(self, samples: Tensor) -> None:
        """Append samples (N) at the spectrogram's rate."""
        self.samples = torch.cat([self.samples, samples.float()])
        self.received += len(samples)

    def has(self, frames: int) -> bool:
        """Whether no later sample changes the next `frames` frames."""
        last = (self.taken + frames - 1) * self.spec.hop
        return last + (self.spec.win + 1) // 2 <= self.received and last + self.spec.hop <= self.received

    def take(self, frames: int) -> Tensor:
        """The mel (frames, M) of the next frames. What was not received counts as zeros."""
        spec, hop, half = self.spec, self.spec.hop, self.spec.n_fft // 2
        end = self.taken + frames
        if self.offset is None:
            self.offset = float(self.samples[: frames * hop].mean()) if self.hearing.spec is not None else 0.0
        begin, stop = self.taken * hop - half, (end - 1) * hop - half + spec.n_fft
        lead = max(0, -begin)
        own = self.samples[begin + lead - self.first : max(0, stop - self.first)] - self.offset
        padded = F.pad(own, (lead, stop - begin - lead - len(own)))
        magnitudes = self.log_mel.framed(padded[None], frames)[0]
        self.taken = end
        dropped = max(0, end * hop - half - self.first)
        self.samples, self.first = self.samples[dropped:].clone(), self.first + dropped
        if self.hearing.spec is None:
            return normalise_log(magnitudes, spec.floor) if spec.log else magnitudes
        return self.hearing.levelled(magnitudes, self._level(magnitudes, edge=self.hearing.spec.edge))

    def rest(self) -> Tensor:
        """The mel (T, M) of what is left at the end of the utterance, perhaps of no frame."""
        frames = self.received // self.spec.hop - self.taken
        return self.take(frames) if frames else torch.zeros(0, self.spec.bins)

    def _level(self, magnitudes: Tensor, *, edge: float) -> float:
        """dB of the voice up to these frames."""
        kept, bands = round(BLOCK * self.spec.frame_rate), band_power(magnitudes, self.hearing.centres)
        self.bands = (torch.cat([self.bands, bands]) if len(self.bands) else bands)[-kept:]
        self.power = torch.cat([self.power, self.hearing.talk_power(magnitudes)])[-kept:]
        loud = self.power[speech_salience(self.bands, frame_rate=self.spec.frame_rate) >= edge]
        unheard = decibels(self.power, QUANTILE) + MARGIN
        enough = len(loud) >= SHORTEST * self.spec.frame_rate
        return max(decibels(loud, LOUD), unheard) if enough else unheard
