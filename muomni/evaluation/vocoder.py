"""The vocoder compared with Griffin-Lim on the same mels: distance, intelligibility, error rates and speed.

Legend: B batch, T frames, M mel bins, N samples.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muomni.batch import WaveformBatch
from muomni.evaluation.base import add
from muomni.evaluation.synthesis import SynthesisEvaluator, SynthesisState
from muomni.evaluation.views import ROWS, View, heat_map
from muomni.frontends.mel import LogMel
from muomni.metrics.sound import match_level, need_stoi, stoi
from muomni.models.codec import Codec
from muomni.models.vocoder import Vocoder

Synthesis = Callable[[Tensor], Tensor]


def mel_distance(log_mel: LogMel, fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the log-mels of waveforms (B, N)."""
    return (log_mel.transform(fake) - log_mel.transform(real)).abs().mean()


@dataclass
class VocoderState(SynthesisState):
    """By version (what synthesised which mel): (distance, STOI or None) of each clip, and seconds of computing; audio_seconds of
    the recordings."""

    similarity: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    audio_seconds: float = 0.0


@dataclass(eq=False, repr=False, kw_only=True)
class VocoderEvaluator(SynthesisEvaluator[VocoderState]):
    """Of the vocoder, and with the prefix `griffin_lim_` of Griffin-Lim on the same mels: `log_mel_distance` (mean absolute
    difference of log-mels at equal level, in their standard deviations), `stoi`, `real_time_factor` (seconds of computing a
    second of audio), and with a judge `cer`. With a codec the same of its resynthesis, `codec_*` and `griffin_lim_codec_*`.
    `cer_recorded`: of the recordings. With a judge what `SynthesisEvaluator.spread` has, too.

    Args:
        synthesize: mel (B, T, M) -> waveform (B, N), the vocoder with its correction. griffin_lim: mel (T, M) -> waveform (N).
        codec: whose mels are synthesised too, or None. log_mel, hop: of the spectrogram.
    """

    model: Vocoder
    synthesize: Synthesis
    codec: Codec | None
    log_mel: LogMel
    hop: int
    griffin_lim: Synthesis
    state_type = VocoderState
    shown = {"recorded": "recorded", "griffin_lim_": "griffin_lim", "": "vocoder"}
    main, aligned = "", ("", "griffin_lim_", "codec_", "griffin_lim_codec_")

    def __post_init__(self) -> None:
        need_stoi()

    def named(self, measure: str, version: str) -> str:
        return f"{measure}_recorded" if version == "recorded" else f"{version}{measure}"

    @torch.no_grad()
    def views(self, batch: WaveformBatch) -> list[View]:
        """What the vocoder makes of the mels of recordings: to listen to, and its spectrogram below the recording's."""
        shown = []
        for row in range(min(ROWS, len(batch.texts))):
            mel = batch.mel[row : row + 1, : int(batch.mel_lengths[row])]
            waveform = self.synthesize(mel)
            both = torch.cat([self.log_mel.transform(waveform), mel.float()], dim=-1)[
                0
            ]  # the first row is at the bottom
            caption = f"above recorded, below synthesized: {batch.texts[row]}"
            shown.append(View("spectrogram", caption, heat_map(both.T, scale=2)))
            clip = waveform[0].float().cpu()
            shown.append(View("synthesized", batch.texts[row], waveform=clip, sample_rate=self.sample_rate))
        return shown

    @torch.no_grad()
    def update(self, batch: WaveformBatch) -> None:
        lengths = batch.mel_lengths.tolist()
        mels = {"": batch.mel}
        if self.codec is not None:
            mels["codec_"] = self.codec(batch.mel, batch.mel_lengths).mel.float()
        real = [row[: length * self.hop] for row, length in zip(batch.waveform, lengths, strict=True)]
        self.state.audio_seconds += sum(len(row) for row in real) / self.sample_rate
        waveforms = {"recorded": real}
        for source, mel in mels.items():
            rows = [row[:length] for row, length in zip(mel, lengths, strict=True)]
            waveforms[source] = self._measured(source, lambda mel: self.synthesize(mel[None])[0], rows, real)
            version = f"griffin_lim_{source}"
            waveforms[version] = self._measured(version, self.griffin_lim, rows, real)
        self.transcribe(batch, waveforms)

    def _measured(self, version: str, synthesize: Synthesis, mels: list[Tensor], real: list[Tensor]) -> list[Tensor]:
        """Waveforms of mels at the level of their recordings; the time they took and their similarity are added up."""
        start = time.perf_counter()
        fake = [synthesize(mel) for mel in mels]
        add(self.state.seconds, {version: time.perf_counter() - start})
        fake = [match_level(waveform, truth) for waveform, truth in zip(fake, real, strict=True)]
        for waveform, truth in zip(fake, real, strict=True):
            distance = float(mel_distance(self.log_mel, waveform[None], truth[None]))
            similarity = stoi(waveform, truth, sample_rate=self.sample_rate)
            self.state.similarity.setdefault(version, []).append((distance, similarity))
        return fake

    def compute(self) -> dict[str, float]:
        state, metrics = self.state, {}
        for version, pairs in state.similarity.items():
            defined = [similarity for _, similarity in pairs if similarity is not None]
            metrics[f"{version}log_mel_distance"] = sum(distance for distance, _ in pairs) / len(pairs)
            metrics[f"{version}stoi"] = sum(defined) / len(defined) if defined else float("nan")
            metrics[f"{version}real_time_factor"] = state.seconds[version] / state.audio_seconds
        for version in state.texts:
            metrics[self.named("cer", version)] = self.cer(version)
        return metrics | self.spread() if state.texts or state.whisper else metrics
