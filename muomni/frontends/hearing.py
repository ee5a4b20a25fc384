"""Waveform -> the input of a speech encoder: a log-mel in which voices are always equally loud, and the spans that hold speech.
The same code before training, evaluation and inference; its numbers are part of each export.

An encoder trained on voices of one level, in closely cut clips, writes letters for noise alone, and loses words after a silence
or from far away.

Legend: N samples, T frames, M mel bins.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from muomni.frontends.mel import LogMel, MelSpec, normalise_log
from muomni.frontends.pretrained_audio import audio_frontend
from muomni.frontends.voice_activity import LOWEST_HERTZ, NOTHING, band_power, spans_of_speech, speech_salience

TALK = 4000.0  # Hz: what of a voice every line carries; its level is measured up to here
LOUD = 0.8  # quantile of the frames that something is said in: the level of its vowels
JUDGED = 1.2  # seconds: a shorter clip has no background to compare with, and is used whole


@dataclass(frozen=True, kw_only=True)
class HearingSpec:
    """How a recording is prepared. Saved with every export of a speech encoder; two that differ do not mix."""

    level: float  # dB that a voice is brought to; a sine at full scale is about 0
    margin: float  # seconds that are kept on both sides of what is said
    pause: float  # seconds: a longer silence is cut out
    threshold: float  # dB of speech above the background at its clearest, on average over the bands
    edge: float  # dB that all frames of it are above

    def metadata(self) -> dict[str, float]:
        """The spec as plain values, for an export and for comparing."""
        return asdict(self)


#: Of exports without this entry: the level of the voices that most of them were trained on, and no silence around them, which
#: those exports do not know.
UNSAID = HearingSpec(level=-7.0, margin=0.0, pause=0.5, threshold=4.0, edge=1.5)


@dataclass(frozen=True, slots=True)
class PreparedSpeech:
    """waveform (N) as it came; mel (T, M) of all of it; spans: frames (begin, end) in which something is said, in order."""

    waveform: Tensor
    mel: Tensor
    spans: list[tuple[int, int]]

    def trimmed(self) -> Tensor:
        """The mel of what is said alone (T', M); all of it where nothing stands out."""
        if not self.spans:
            return self.mel
        return torch.cat([self.mel[begin:end] for begin, end in self.spans])


class Hearing:
    """Callable: waveform (N,) -> `PreparedSpeech`.

    Args:
        mel: the spectrogram, or what stands in its place. spec: None: as the waveform is, from its first frame to its last.

    Raises ValueError for a spec with anything but a log-mel: levels are measured in it.
    """

    def __init__(self, mel: MelSpec, spec: HearingSpec | None) -> None:
        self.frontend, self.mel, self.spec = audio_frontend(mel), mel, spec
        if isinstance(self.frontend, LogMel):
            self.log_mel = self.frontend
            filters = self.log_mel.filters
            self.centres = torch.linspace(0, mel.sample_rate / 2, len(filters))[filters.argmax(0)]
        elif spec is not None:
            raise ValueError(f"hearing measures levels in a log-mel, not in mel.kind={mel.kind}: give hearing=null")

    def __call__(self, waveform: Tensor) -> PreparedSpeech:
        """Raises ValueError for a waveform shorter than one frame and for samples that are not finite."""
        if self.spec is None:
            mel = self.frontend(waveform)
            return PreparedSpeech(waveform, mel, [(0, len(mel))])
        self.log_mel.check(waveform)
        samples = waveform.float()
        magnitudes = self.log_mel.magnitudes((samples - samples.mean())[None])[0]
        score = speech_salience(band_power(magnitudes, self.centres), frame_rate=self.mel.frame_rate)
        spans = [(0, len(score))]
        if len(score) >= JUDGED * self.mel.frame_rate:
            criteria = {name: value for name, value in asdict(self.spec).items() if name != "level"}
            spans = spans_of_speech(score, **criteria, frame_rate=self.mel.frame_rate)
        power = self.talk_power(magnitudes)
        loud = power[score >= self.spec.edge]
        level = decibels(loud if spans and len(loud) else power, LOUD)
        return PreparedSpeech(waveform, self.levelled(magnitudes, level), spans)

    def talk_power(self, magnitudes: Tensor) -> Tensor:
        """Mel magnitudes (T, M) -> power of what every line carries of a voice (T)."""
        return magnitudes[:, (self.centres >= LOWEST_HERTZ) & (self.centres <= TALK)].square().sum(1)

    def levelled(self, magnitudes: Tensor, level: float) -> Tensor:
        """Mel magnitudes (T, M) of a voice of that level in dB -> mel, brought to the level of the spec."""
        assert self.spec is not None, "there is no level"
        magnitudes = magnitudes * (1.0 if level < NOTHING else 10 ** ((self.spec.level - level) / 20))
        return normalise_log(magnitudes, self.mel.floor) if self.mel.log else magnitudes


def decibels(power: Tensor, quantile: float) -> float:
    """A quantile of power (T) in dB."""
    return 10 * math.log10(float(power.quantile(quantile)) + 1e-20)


def hearing_of(metadata: Mapping[str, Any], *, where: str) -> HearingSpec | None:
    """The spec in an export's metadata; `UNSAID` if it has none, and None for micro-omni's, which take the waveform as it
    is. Raises ValueError naming the export where the entry is damaged."""
    if "hearing" not in metadata:
        return None if "micro_omni" in metadata else UNSAID
    if metadata["hearing"] is None:
        return None
    try:
        return HearingSpec(**{name: float(value) for name, value in metadata["hearing"].items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: the metadata of 'hearing' are damaged: {error}") from error
