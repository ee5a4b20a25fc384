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
from muomni.metrics.error_rates import error_rates, error_spread

log = logging.getLogger(__name__)


@dataclass(eq=False)
class SpokenAnswers:
    """Speaks texts and transcribes them.

    Args:
        talker: the export of stage=talker, with its codec. voice: Talker, codec -> what speaks with them.
        vocoder: mel (T, M) -> waveform (N), for a codec of mels. mel: the vocoder's spectrogram, which must be the one that such
            a codec rebuilds; waveforms have its sample rate. independent: judges as well.
    """

    talker: DeferredExport
    voice: Callable[[nn.Module, nn.Module], Speaker]
    vocoder: Callable[[Tensor], Tensor]
    mel: MelSpec
    judge: Judge
    independent: IndependentJudge | None = None
    _modules: dict[str, nn.Module] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if "codec_audio" not in self.talker.metadata:
            check_same(self.talker.metadata, {"codec_mel": self.mel.metadata()}, where=str(self.talker.folder))

    def transcribe(
        self, texts: list[str], truth: list[str], device: torch.device
    ) -> tuple[list[str], list[str], list[Tensor | None]]:
        """Speak texts in the first voice: the judge's transcript of each, the truth as it is said, and the waveforms (N). A text
        of which nothing can be spoken is silence: "" and None. What has no words is counted and logged."""
        if not self._modules:
            export = self.talker.load()
            self._modules = {name: export.modules[name] for name in ("talker", "codec")}
        for module in self._modules.values():
            module.to(device)
        voice = self.voice(self._modules["talker"], self._modules["codec"])
        said = [voice.in_words(text) for text in texts]
        if holes := [each.left_out for each in said if each.left_out]:
            words = "%d of %d answers hold characters that cannot be spoken; the first: %r"
            log.warning(words, len(holes), len(said), holes[0])
        waveforms: list[Tensor | None] = [None] * len(said)
        transcripts = [""] * len(said)
        rows = [row for row, each in enumerate(said) if each.text]
        if rows:
            codes, _ = voice.say([said[row].text for row in rows], [0] * len(rows))
            codec: Any = self._modules["codec"]
            waveform_of = whole_decoder(codec, self.vocoder, sample_rate=self.mel.sample_rate)
            spoken = [waveform_of(each).cpu() for each in codes]
            for row, waveform, text in zip(rows, spoken, self.judge.on(device)(spoken), strict=True):
                waveforms[row], transcripts[row] = waveform, voice.in_words(text).text
        return transcripts, [voice.in_words(text).text for text in truth], waveforms

    def independent_rates(self, waveforms: list[Tensor | None], truth: list[str]) -> dict[str, float]:
        """`cer`, `wer` and the spread of the CER by an independent judge; empty without one. A silent answer says nothing."""
        if self.independent is None:
            return {}
        sounding = iter(self.independent.transcribe([waveform for waveform in waveforms if waveform is not None]))
        texts = ["" if waveform is None else next(sounding) for waveform in waveforms]
        said, references = self.independent.compared(texts, truth)
        spread = {f"cer_{name}": value for name, value in error_spread(said, references).items()}
        return {**error_rates(said, references), **spread}

    def examples(
        self, split: str, transcripts: list[str], truth: list[str], waveforms: list[Tensor | None]
    ) -> list[dict[str, Any]]:
        """The transcript of each text that made a sound, with the sound."""
        return [
            {
                "split": split, "id": f"tts-{index}", "task": "tts", "kind": "spoken", "question": truth[index],
                "answer": answer, "truth": truth[index], "waveform": waveforms[index], "sample_rate": self.mel.sample_rate,
            }
            for index, answer in enumerate(transcripts)
            if waveforms[index] is not None
        ]  # fmt: skip
