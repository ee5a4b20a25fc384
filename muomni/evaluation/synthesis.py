"""What judges make of several versions of the same recordings: the recordings, their resynthesis, and other synthesis.

The own judge is a recognizer of ours, trained on the same voices and sentences. An independent one (independent.py) is measured
next to it where it is wanted, under the same names after `whisper_`.

Legend: N samples.
"""

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from torch import Tensor

from muomni.batch import SpeechBatch, WaveformBatch
from muomni.evaluation.base import Evaluator, State, add
from muomni.evaluation.independent import IndependentJudge, mean
from muomni.evaluation.judge import Judge
from muomni.frontends.audio_io import read_audio
from muomni.metrics.error_rates import error_rates, error_spread, shuffled

MAX_EXAMPLES = 3  # recordings


@dataclass
class SynthesisState(State):
    """truth: what was said, of each recording. texts: the judge's, by version; whisper: an independent judge's. quality: what
    else that one measured, by measure and version."""

    truth: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    whisper: dict[str, list[str]] = field(default_factory=dict)
    quality: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)


S = TypeVar("S", bound=SynthesisState)


@dataclass(eq=False, repr=False, kw_only=True)
class SynthesisEvaluator(Evaluator[S]):
    """Base of the evaluators of synthesis.

    Args:
        judge: None leaves out the error rates. sample_rate: of the waveforms, in Hz. independent: also judges.
    """

    judge: Judge | None
    sample_rate: int
    independent: IndependentJudge | None = None
    #: Versions that are shown as examples, and how they are called there.
    shown: ClassVar[dict[str, str]]
    #: The version that is also compared with other items' texts.
    main: ClassVar[str]
    #: Versions whose samples are those of the recordings, which can be compared one by one.
    aligned: ClassVar[tuple[str, ...]] = ()

    def compared(self, text: str) -> str:
        """A judge's text as it is compared with the truth."""
        return text

    def named(self, measure: str, version: str) -> str:
        """The metric of a measure ("cer", "mos") of a version."""
        return f"{measure}_{version}"

    def transcribe(
        self, batch: SpeechBatch | WaveformBatch, waveforms: dict[str, list[Tensor]], *, question: str | None = None
    ) -> None:
        """Transcribe versions (N) of a batch's recordings; "recorded", if it is not among them, is read from the files.

        question: of the examples; None: what was said.
        """
        texts, whisper, state = dict[str, list[str]](), dict[str, list[str]](), self.state
        if self.judge is not None:
            recognizer = self.judge.on(batch.mel.device)
            texts = {version: recognizer(each) for version, each in waveforms.items()}
            if "recorded" not in waveforms:
                waveforms["recorded"], texts["recorded"] = recognizer.read(batch.audio)
            texts = {version: [self.compared(text) for text in each] for version, each in texts.items()}
        if self.independent is not None:
            if "recorded" not in waveforms:
                waveforms["recorded"] = [read_audio(path, self.sample_rate) for path in batch.audio]
            whisper = {version: self.independent.transcribe(each) for version, each in waveforms.items()}
            add(state.quality, self.independent.quality(waveforms, aligned=self.aligned))
        for row in range(min(MAX_EXAMPLES - len(state.truth), len(batch.texts))):
            truth = batch.texts[row]
            for version, kind in self.shown.items():
                sound = {"waveform": waveforms[version][row].cpu().clone(), "sample_rate": self.sample_rate}
                self.show(batch, row, question=question or truth, truth=truth, kind=kind, **sound)
                if version in texts:
                    text = texts[version][row]
                    self.examples[-1] |= {"answer": text, **error_rates([text], [truth])}
                if version in whisper:
                    self.examples[-1]["whisper"] = whisper[version][row]
        add(state.texts, texts)
        add(state.whisper, whisper)
        state.truth += batch.texts

    def cer(self, version: str) -> float:
        """Character error rate of a version, in percent."""
        return error_rates(self.state.texts[version], self.state.truth)["cer"]

    def spread(self) -> dict[str, float]:
        """Of each version's CER its interval and the mean, median and capped mean of the sentences' own; the number of sentences;
        and all that an independent judge found."""
        state, metrics = self.state, {"clips": float(len(self.state.truth))}
        for version, texts in state.texts.items():
            metrics |= ended(self.named("cer", version), error_spread(texts, state.truth))
        if self.independent is None:
            return metrics
        for version, texts in state.whisper.items():
            said, truth = self.independent.compared(texts, state.truth)
            for measure, value in error_rates(said, truth).items():
                metrics[f"whisper_{self.named(measure, version)}"] = value
            metrics |= ended(f"whisper_{self.named('cer', version)}", error_spread(said, truth))
            if version == self.main:  # "shuffled" of every report
                metrics["whisper_cer_shuffled"] = error_rates(said, shuffled(truth))["cer"]
        for measure, versions in state.quality.items():
            values = ((self.named(measure, version), mean(each)) for version, each in versions.items())
            metrics |= {name: value for name, value in values if value is not None}
        return metrics


def ended(name: str, values: dict[str, float]) -> dict[str, float]:
    """The values under `name_KEY`."""
    return {f"{name}_{key}": value for key, value in values.items()}
