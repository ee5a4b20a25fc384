"""The vocoder compared with Griffin-Lim on the same mels: distance, intelligibility, error rates and speed.

Legend: B batch, T frames, M mel bins, N samples.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from muomni.batch import WaveformBatch
from muomni.evaluation.base import Evaluator, State, add
from muomni.evaluation.judge import Judge
from muomni.metrics.error_rates import error_rates
from muomni.metrics.sound import match_level, need_stoi, stoi
from muomni.models.codec import Codec
from muomni.models.vocoder import Vocoder

MAX_EXAMPLES = 3  # recordings

Synthesis = Callable[[Tensor], Tensor]


class Spectrogram(Protocol):
    """muomni/frontends/mel.py."""

    def transform(self, clips: Tensor) -> Tensor:
        """clips (B, N) -> mel (B, T, M)."""
        ...


def mel_distance(log_mel: Spectrogram, fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the log-mels of waveforms (B, N)."""
    return (log_mel.transform(fake) - log_mel.transform(real)).abs().mean()


@dataclass
class VocoderState(State):
    """By version (what synthesised which mel, and "recorded"): texts heard, (distance, STOI or None) of each clip, and seconds
    of computing; audio_seconds of the recordings."""

    truth: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    similarity: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    audio_seconds: float = 0.0


class VocoderEvaluator(Evaluator[VocoderState]):
    """Of the vocoder, and with the prefix `griffin_lim_` of Griffin-Lim on the same mels: `log_mel_distance` (mean absolute
    difference of log-mels at equal level, in their standard deviations), `stoi`, `real_time_factor` (seconds of computing a
    second of audio), and with a judge `cer`. With a codec the same of its resynthesis, `codec_*` and `griffin_lim_codec_*`.
    `cer_recorded`: of the recordings.

    Args:
        model: the vocoder. synthesize: mel (B, T, M) -> waveform (B, N), the vocoder with its correction.
        codec: whose mels are synthesised too, or None. log_mel, hop, sample_rate: the spectrogram.
        griffin_lim: mel (T, M) -> waveform (N). judge: None leaves out the error rates.
    """

    def __init__(
        self,
        model: Vocoder,
        *,
        synthesize: Synthesis,
        codec: Codec | None,
        log_mel: Spectrogram,
        hop: int,
        sample_rate: int,
        griffin_lim: Synthesis,
        judge: Judge | None,
    ) -> None:
        super().__init__(model)
        need_stoi()
        self.synthesize, self.codec, self.log_mel = synthesize, codec, log_mel
        self.hop, self.sample_rate = hop, sample_rate
        self.griffin_lim, self.judge = griffin_lim, judge

    def new_state(self) -> VocoderState:
        return VocoderState()

    @torch.no_grad()
    def update(self, batch: WaveformBatch) -> None:
        state, lengths = self.state, batch.mel_lengths.tolist()
        mels = {"": batch.mel}
        if self.codec is not None:
            mels["codec_"] = self.codec(batch.mel, batch.mel_lengths).mel.float()
        real = [row[: length * self.hop] for row, length in zip(batch.waveform, lengths, strict=True)]
        waveforms: dict[str, list[Tensor]] = {"recorded": real}
        state.audio_seconds += sum(len(row) for row in real) / self.sample_rate
        for source, mel in mels.items():
            for method, synthesize in (("", self._one), ("griffin_lim_", self.griffin_lim)):
                rows = [row[:length] for row, length in zip(mel, lengths, strict=True)]
                waveforms[method + source] = self._measured(method + source, synthesize, rows, real)
        if self.judge is not None:
            recognizer = self.judge.on(batch.mel.device)
            add(state.texts, {version: recognizer(each) for version, each in waveforms.items()})
        self._add_examples(batch, waveforms)
        state.truth += batch.texts

    def _one(self, mel: Tensor) -> Tensor:
        """mel (T, M) -> waveform (N)."""
        return self.synthesize(mel[None])[0]

    def _measured(self, version: str, synthesize: Synthesis, mels: list[Tensor], real: list[Tensor]) -> list[Tensor]:
        """Waveforms of mels at the level of their recordings; the time they took and their similarity are added up."""
        state, start = self.state, time.perf_counter()
        fake = [synthesize(mel) for mel in mels]
        add(state.seconds, {version: time.perf_counter() - start})
        fake = [match_level(waveform, truth) for waveform, truth in zip(fake, real, strict=True)]
        for waveform, truth in zip(fake, real, strict=True):
            distance = float(mel_distance(self.log_mel, waveform[None], truth[None]))
            similarity = stoi(waveform, truth, sample_rate=self.sample_rate)
            state.similarity.setdefault(version, []).append((distance, similarity))
        return fake

    def _add_examples(self, batch: WaveformBatch, waveforms: dict[str, list[Tensor]]) -> None:
        names, done = {"recorded": "recorded", "griffin_lim_": "griffin_lim", "": "vocoder"}, len(self.state.truth)
        for row in range(min(MAX_EXAMPLES - done, len(batch.texts))):
            truth = batch.texts[row]
            for version, name in names.items():
                sound = {
                    "kind": name,
                    "waveform": waveforms[version][row].cpu().clone(),
                    "sample_rate": self.sample_rate,
                }
                example = {"split": self.split, "id": batch.sample_ids[row], "question": truth, "truth": truth, **sound}
                if self.judge is not None:
                    text = self.state.texts[version][done + row]
                    example |= {"answer": text, **error_rates([text], [truth])}
                self.state.examples.append(example)

    def compute(self) -> dict[str, float]:
        state, metrics = self.state, {}
        for version, pairs in state.similarity.items():
            defined = [similarity for _, similarity in pairs if similarity is not None]
            metrics[f"{version}log_mel_distance"] = sum(distance for distance, _ in pairs) / len(pairs)
            metrics[f"{version}stoi"] = sum(defined) / len(defined) if defined else float("nan")
            metrics[f"{version}real_time_factor"] = state.seconds[version] / state.audio_seconds
        for version, texts in state.texts.items():
            name = "cer_recorded" if version == "recorded" else f"{version}cer"
            metrics[name] = error_rates(texts, state.truth)["cer"]
        return metrics
