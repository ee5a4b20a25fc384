"""The Thinker's answers, spoken by the Talker and transcribed by a judge. All three are loaded when a split has answers to be
spoken.

Legend: T frames, M mel bins, N samples.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from muomni.checkpoints.deferred import DeferredExport
from muomni.checkpoints.export import check_same
from muomni.evaluation.independent import IndependentJudge
from muomni.evaluation.judge import Judge
from muomni.frontends.mel import MelSpec
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speech_decoder import whole_decoder
from muomni.inference.tts.text_states import MODULE, TextStates, states_of_export
from muomni.metrics.error_rates import error_rates, error_spread
from muomni.metrics.speech_faults import length_faults, repeated_share

log = logging.getLogger(__name__)


@dataclass
class Spoken:
    """What became of texts that were spoken, one entry a text. said: what the Talker was given; "" where nothing of a text can be
    spoken, which is silence: its transcript is "", its waveform (N) None. truth: the right text in the same words. cut, ratios:
    of those with a sound, whether the limit on frames cut it off, and its frames by those that the Talker itself predicts."""

    said: list[str]
    truth: list[str]
    transcripts: list[str]
    waveforms: list[Tensor | None]
    cut: list[bool] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def rates(self) -> dict[str, float]:
        """`cer`, `wer` and the faults of speech; those of length where anything made a sound."""
        metrics = error_rates(self.transcripts, self.truth)
        metrics["repeated"] = repeated_share(self.transcripts, self.said)
        return metrics | (length_faults(self.ratios, self.cut) if self.cut else {})


@dataclass(eq=False)
class SpokenAnswers:
    """Speaks texts and transcribes them.

    Args:
        talker: the export of stage=talker, with its codec. voice: Talker, codec -> what speaks with them.
        vocoder: mel (T, M) -> waveform (N), for a codec of mels. mel: the vocoder's spectrogram, which must be the one that such
            a codec rebuilds; waveforms have its sample rate. independent: judges as well.
    """

    talker: DeferredExport
    voice: Callable[..., Speaker]
    vocoder: Callable[[Tensor], Tensor]
    mel: MelSpec
    judge: Judge
    independent: IndependentJudge | None = None
    _modules: dict[str, nn.Module] = field(init=False, default_factory=dict)
    _told: dict[str, TextStates] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if "codec_audio" not in self.talker.metadata:
            check_same(self.talker.metadata, {"codec_mel": self.mel.metadata()}, where=str(self.talker.folder))

    def transcribe(self, texts: list[str], truth: list[str], device: torch.device) -> Spoken:
        """Speak texts in the first voice. What has no words is counted and logged."""
        if not self._modules:
            export = self.talker.load()
            self._modules = {name: export.modules[name] for name in ("talker", "codec")}
            if MODULE in export.modules:
                self._told = {"states": states_of_export(export)}
        for module in self._modules.values():
            module.to(device)
        voice = self.voice(self._modules["talker"], self._modules["codec"], **self._told)
        said = [voice.in_words(text) for text in texts]
        if holes := [each.left_out for each in said if each.left_out]:
            words = "%d of %d answers hold characters that cannot be spoken; the first: %r"
            log.warning(words, len(holes), len(said), holes[0])
        spoken = Spoken(
            said=[each.text for each in said],
            truth=[voice.in_words(text).text for text in truth],
            transcripts=[""] * len(said),
            waveforms=[None] * len(said),
        )
        rows = [row for row, text in enumerate(spoken.said) if text]
        if rows:
            sounding, voices = [spoken.said[row] for row in rows], [0] * len(rows)
            codes, spoken.cut = voice.say(sounding, voices)
            expected = voice.predicted_frames(sounding, voices)
            spoken.ratios = [len(each) / max(frames, 1.0) for each, frames in zip(codes, expected, strict=True)]
            codec: Any = self._modules["codec"]
            waveform_of = whole_decoder(codec, self.vocoder, sample_rate=self.mel.sample_rate)
            sounds = [waveform_of(each).cpu() for each in codes]
            for row, waveform, text in zip(rows, sounds, self.judge.on(device)(sounds), strict=True):
                spoken.waveforms[row], spoken.transcripts[row] = waveform, voice.in_words(text).text
        return spoken

    def independent_rates(self, spoken: Spoken) -> dict[str, float]:
        """`cer`, `wer`, the spread of the CER and `repeated` by an independent judge; empty without one. A silent answer says
        nothing."""
        if self.independent is None:
            return {}
        waveforms = spoken.waveforms
        sounding = iter(self.independent.transcribe([waveform for waveform in waveforms if waveform is not None]))
        texts = ["" if waveform is None else next(sounding) for waveform in waveforms]
        said, references = self.independent.compared(texts, spoken.truth)
        spread = {f"cer_{name}": value for name, value in error_spread(said, references).items()}
        twice = repeated_share(*self.independent.compared(texts, spoken.said)) if any(spoken.said) else 0.0
        return {**error_rates(said, references), **spread, "repeated": twice}

    def examples(self, split: str, spoken: Spoken, *, most: int) -> list[dict[str, Any]]:
        """The transcript of each of the first texts that made a sound, with the sound."""
        return [
            {
                "split": split, "id": f"tts-{index}", "task": "tts", "kind": "spoken", "question": spoken.truth[index],
                "answer": answer, "truth": spoken.truth[index], "waveform": spoken.waveforms[index],
                "sample_rate": self.mel.sample_rate,
            }
            for index, answer in enumerate(spoken.transcripts[:most])
            if spoken.waveforms[index] is not None
        ]  # fmt: skip
