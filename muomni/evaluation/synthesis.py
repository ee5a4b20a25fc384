"""What a judge transcribes of several versions of the same recordings: the recordings, their resynthesis, and other synthesis.

Legend: N samples.
"""

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from torch import Tensor

from muomni.batch import SpeechBatch, WaveformBatch
from muomni.evaluation.base import Evaluator, State, add
from muomni.evaluation.judge import Judge
from muomni.metrics.error_rates import error_rates

MAX_EXAMPLES = 3  # recordings


@dataclass
class SynthesisState(State):
    """truth: what was said, of each recording. texts: the judge's, by version."""

    truth: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)


S = TypeVar("S", bound=SynthesisState)


@dataclass(eq=False, repr=False, kw_only=True)
class SynthesisEvaluator(Evaluator[S]):
    """Base of the evaluators of synthesis.

    Args:
        judge: None leaves out the error rates. sample_rate: of the waveforms, in Hz.
    """

    judge: Judge | None
    sample_rate: int
    #: Versions that are shown as examples, and how they are called there.
    shown: ClassVar[dict[str, str]]

    def compared(self, text: str) -> str:
        """A judge's text as it is compared with the truth."""
        return text

    def transcribe(
        self, batch: SpeechBatch | WaveformBatch, waveforms: dict[str, list[Tensor]], *, question: str | None = None
    ) -> None:
        """Transcribe versions (N) of a batch's recordings; "recorded", if it is not among them, is read from the files.

        question: of the examples; None: what was said.
        """
        texts, state = dict[str, list[str]](), self.state
        if self.judge is not None:
            recognizer = self.judge.on(batch.mel.device)
            texts = {version: recognizer(each) for version, each in waveforms.items()}
            if "recorded" not in waveforms:
                waveforms["recorded"], texts["recorded"] = recognizer.read(batch.audio)
            texts = {version: [self.compared(text) for text in each] for version, each in texts.items()}
        for row in range(min(MAX_EXAMPLES - len(state.truth), len(batch.texts))):
            truth = batch.texts[row]
            for version, kind in self.shown.items():
                sound = {"waveform": waveforms[version][row].cpu().clone(), "sample_rate": self.sample_rate}
                self.show(batch, row, question=question or truth, truth=truth, kind=kind, **sound)
                if version in texts:
                    text = texts[version][row]
                    self.examples[-1] |= {"answer": text, **error_rates([text], [truth])}
        add(state.texts, texts)
        state.truth += batch.texts

    def cer(self, version: str) -> float:
        """Character error rate of a version, in percent."""
        return error_rates(self.state.texts[version], self.state.truth)["cer"]
