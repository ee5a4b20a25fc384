"""The Talker: what a recognizer hears when it speaks, compared with the recordings and with the codec's resynthesis of them.

Legend: B batch, T mel frames, M mel bins, T' code frames, K codebooks, N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muomni.batch import SpeechBatch
from muomni.evaluation.base import Evaluator, State, add
from muomni.evaluation.judge import Judge, Voice
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.codec import Codec
from muomni.models.talker import Talker

MAX_EXAMPLES = 3  # sentences
RUNAWAY = 2.0  # longer than this many times the recording
VERSIONS = ("recorded", "codec", "spoken")


@dataclass
class TalkerState(State):
    """texts: heard in each of VERSIONS. ratios: spoken over recorded length. cut: whether the limit on frames cut it."""

    truth: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=lambda: {version: [] for version in VERSIONS})
    ratios: list[float] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)


class TalkerEvaluator(Evaluator[TalkerState]):
    """`cer`, `wer` (percent, of what the judge hears), `cer_shuffled` (against other items' texts), `runaway` (percent longer
    than twice the recording), `truncated` (percent cut by the limit on frames), `duration_ratio` (spoken over recorded, mean),
    `cer_recorded`, `cer_codec` (recordings, and the codec's resynthesis of them with as many codebooks as the Talker speaks).

    Args:
        model: the Talker. codec: whose codes it speaks.
        voice: Talker and codec -> `Voice`. vocoder: mel (T, M) -> waveform (N).
        sample_rate: of the spectrogram, in Hz.
    """

    model: Talker

    def __init__(
        self,
        model: Talker,
        codec: Codec,
        *,
        voice: Callable[[Talker, Codec], Voice],
        vocoder: Callable[[Tensor], Tensor],
        judge: Judge,
        sample_rate: int,
    ) -> None:
        super().__init__(model)
        self.codec, self.voice = codec, voice(model, codec)
        self.vocoder, self.judge, self.sample_rate = vocoder, judge, sample_rate

    def new_state(self) -> TalkerState:
        return TalkerState()

    @torch.no_grad()
    def update(self, batch: SpeechBatch) -> None:
        codes = self.codec.encode(batch.mel, batch.mel_lengths)[..., : self.model.num_codebooks]
        lengths: list[int] = self.codec.code_lengths(batch.mel_lengths).tolist()
        voices = [min(speaker, self.model.num_speakers - 1) for speaker in batch.speakers.tolist()]
        spoken, cut = self.voice.say(batch.texts, voices)
        rebuilt = [row[:length] for row, length in zip(codes, lengths, strict=True)]
        waveforms = {"codec": self._waveforms(rebuilt), "spoken": self._waveforms(spoken)}
        recognizer = self.judge.on(batch.mel.device)
        texts = {version: recognizer(each) for version, each in waveforms.items()}
        waveforms["recorded"], texts["recorded"] = recognizer.read(batch.audio)
        texts = {version: [self.voice.in_words(text).text for text in each] for version, each in texts.items()}
        self._add_examples(batch, waveforms, texts)
        state = self.state
        add(state.texts, texts)
        state.truth += batch.texts
        state.cut += cut
        state.ratios += [len(row) / length for row, length in zip(spoken, lengths, strict=True)]

    def _waveforms(self, rows: list[Tensor]) -> list[Tensor]:
        """Codes (T', K) -> waveforms (N)."""
        return [self.vocoder(self.codec.decode(row[None])[0]).cpu() for row in rows]

    def _add_examples(
        self, batch: SpeechBatch, waveforms: dict[str, list[Tensor]], texts: dict[str, list[str]]
    ) -> None:
        for row in range(min(MAX_EXAMPLES - len(self.state.truth), len(batch.texts))):
            truth = batch.texts[row]
            for version in VERSIONS:
                text = texts[version][row]
                source = {"split": self.split, "id": batch.sample_ids[row], "question": truth, "truth": truth}
                sound = {"kind": version, "waveform": waveforms[version][row], "sample_rate": self.sample_rate}
                self.state.examples.append({**source, **sound, "answer": text, **error_rates([text], [truth])})

    def compute(self) -> dict[str, float]:
        state, count = self.state, len(self.state.truth)
        return {
            **error_rates(state.texts["spoken"], state.truth),
            "cer_shuffled": error_rates(state.texts["spoken"], shuffled(state.truth))["cer"],
            "cer_codec": error_rates(state.texts["codec"], state.truth)["cer"],
            "cer_recorded": error_rates(state.texts["recorded"], state.truth)["cer"],
            "truncated": 100 * sum(state.cut) / count,
            "runaway": 100 * sum(r > RUNAWAY and not c for r, c in zip(state.ratios, state.cut, strict=True)) / count,
            "duration_ratio": sum(state.ratios) / count,
        }
