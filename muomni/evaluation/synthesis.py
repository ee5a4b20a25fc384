"""What judges make of several versions of the same recordings: the recordings, their resynthesis, and other synthesis.

The own judge is a recognizer of ours, trained on the same voices and sentences. An independent one (independent.py) is measured
next to it where it is wanted, under the same names after `whisper_`.

Legend: N samples.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from muomni.batch import SpeechBatch, WaveformBatch
from muomni.evaluation.base import Evaluator, State, add
from muomni.evaluation.independent import IndependentJudge, mean
from muomni.evaluation.judge import Judge
from muomni.frontends.audio_io import read_audio
from muomni.metrics.error_rates import error_rates, error_spread, shuffled
from muomni.metrics.speech_faults import TRUNCATED, length_faults, repeated_share, sounding_ratio

MAX_EXAMPLES = 3  # recordings


@dataclass
class SynthesisState(State):
    """truth: what was said, of each recording, as `compared`. texts: the judge's, by version; whisper: an independent judge's.
    quality: what else that one measured, by measure and version. ratios: length over that of the recording; cut: whether a
    limit, or what else, cut it off."""

    truth: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    whisper: dict[str, list[str]] = field(default_factory=dict)
    quality: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)


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
        """A text, the judge's or the truth, as they are compared."""
        return text if self.judge is None else self.judge.in_words(text)

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
        recognizer: Any = None
        if self.judge is not None:
            recognizer = self.judge.on(batch.mel.device)
            texts = {version: recognizer(each) for version, each in waveforms.items()}
            if "recorded" not in waveforms:
                waveforms["recorded"], texts["recorded"] = recognizer.read(batch.audio)
            texts = {version: [self.compared(text) for text in each] for version, each in texts.items()}
        truths = [self.compared(text) for text in batch.texts]
        if self.independent is not None:
            if "recorded" not in waveforms:
                waveforms["recorded"] = [read_audio(path, self.sample_rate) for path in batch.audio]
            whisper = {version: self.independent.transcribe(each) for version, each in waveforms.items()}
            add(state.quality, self.independent.quality(waveforms, aligned=self.aligned))
        if self.main in self.aligned and "recorded" in waveforms:  # no limit on frames can have cut it
            pairs = zip(waveforms[self.main], waveforms["recorded"], strict=True)
            ratios = [sounding_ratio(*pair, sample_rate=self.sample_rate) for pair in pairs]
            state.ratios += ratios
            state.cut += [ratio < TRUNCATED for ratio in ratios]
        for row in range(min(MAX_EXAMPLES - len(state.truth), len(batch.texts))):
            truth = truths[row]
            for version, kind in self.shown.items():
                waveform = waveforms[version][row].cpu().clone()
                sound = {"waveform": waveform, "sample_rate": self.sample_rate}
                self.show(batch, row, question=question or truth, truth=truth, kind=kind, **sound)
                if version in texts:
                    text = texts[version][row]
                    self.examples[-1] |= {"answer": text, **(error_rates([text], [truth]) if truth else {})}
                    self.examples[-1]["words"] = recognizer.words(waveform, truth)
                if version in whisper:
                    self.examples[-1] |= self._by_stranger(whisper[version][row], truth)
        add(state.texts, texts)
        add(state.whisper, whisper)
        state.truth += truths

    def _by_stranger(self, text: str, truth: str) -> dict[str, Any]:
        """Of an example: an independent judge's transcript, as it writes it and in the words that are compared, with its CER."""
        assert self.independent is not None
        if not truth:
            return {"whisper": text}
        said, reference = self.independent.compared([text], [truth])
        rate = error_rates(said, reference)["cer"]
        return {"whisper": text, "whisper_words": said[0], "whisper_truth": reference[0], "whisper_cer": rate}

    def pairs(self, version: str) -> tuple[list[str], list[str]]:
        """The own judge's transcripts of a version and their references, without those whose reference has no word. Raises
        ValueError if none has."""
        pairs = [pair for pair in zip(self.state.texts[version], self.state.truth, strict=True) if pair[1]]
        if not pairs:
            raise ValueError(f"{self.split}: no text of this split has a word in the characters of the judge (judge=)")
        return [said for said, _ in pairs], [truth for _, truth in pairs]

    def cer(self, version: str) -> float:
        """Character error rate of a version, in percent."""
        return error_rates(*self.pairs(version))["cer"]

    def spread(self) -> dict[str, float]:
        """Of each version's CER its interval and the mean, median and capped mean of the sentences' own, and `repeated`; of the
        main version `length_faults`; the number of sentences; and all that an independent judge found."""
        state, metrics = self.state, {"clips": float(len(self.state.truth))}
        for version in state.texts:
            said, truth = self.pairs(version)
            metrics |= ended(self.named("cer", version), error_spread(said, truth))
            metrics[self.named("repeated", version)] = repeated_share(said, truth)
        faults = length_faults(state.ratios, state.cut) if state.ratios else {}
        metrics |= {self.named(name, self.main): value for name, value in faults.items()}
        for measure, versions in state.quality.items():
            values = ((self.named(measure, version), mean(each)) for version, each in versions.items())
            metrics |= {name: value for name, value in values if value is not None}
        if self.independent is None:
            return metrics
        for version, texts in state.whisper.items():
            said, truth = self.independent.compared(texts, state.truth)
            for measure, value in error_rates(said, truth).items():
                metrics[f"whisper_{self.named(measure, version)}"] = value
            metrics |= ended(f"whisper_{self.named('cer', version)}", error_spread(said, truth))
            metrics[f"whisper_{self.named('repeated', version)}"] = repeated_share(said, truth)
            if version == self.main:  # "shuffled" of every report
                metrics["whisper_cer_shuffled"] = error_rates(said, shuffled(truth))["cer"]
        return metrics


def ended(name: str, values: dict[str, float]) -> dict[str, float]:
    """The values under `name_KEY`."""
    return {f"{name}_{key}": value for key, value in values.items()}
