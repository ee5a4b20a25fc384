"""What a listener hears when the Talker speaks the Thinker's answers. Talker, codec and judge are loaded when a split has
answers to be spoken.

Legend: T frames, M mel bins, N samples.
"""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from muomni.checkpoints.deferred import DeferredExport
from muomni.checkpoints.export import check_same
from muomni.evaluation.judge import Judge, SpokenText, Voice

log = logging.getLogger(__name__)


class Spectrogram(Protocol):
    """muomni/frontends/mel.py: MelSpec."""

    sample_rate: int

    def metadata(self) -> dict[str, Any]:
        """As exports name it."""
        ...


class SpokenAnswers:
    """Speaks texts and transcribes them.

    Args:
        talker: the export of stage=talker, with its codec. voice: Talker, codec -> `Voice`.
        vocoder: mel (T, M) -> waveform (N). mel: the vocoder's spectrogram, which must be the one that the codec rebuilds.
    """

    def __init__(
        self,
        talker: DeferredExport,
        *,
        voice: Callable[[nn.Module, nn.Module], Voice],
        vocoder: Callable[[Tensor], Tensor],
        mel: Spectrogram,
        judge: Judge,
    ) -> None:
        check_same(talker.metadata, {"codec_mel": mel.metadata()}, where=str(talker.folder))
        self.sample_rate = mel.sample_rate
        self.talker, self.vocoder, self.judge = talker, vocoder, judge
        self._make_voice, self._modules = voice, dict[str, nn.Module]()

    def transcribe(
        self, texts: list[str], truth: list[str], device: torch.device
    ) -> tuple[list[str], list[str], list[Tensor | None]]:
        """Speak texts in the first voice: what the judge hears of each, the truth as it is said, and the waveforms (N). A text
        of which nothing can be spoken is silence: "" and None. What has no words is counted and logged."""
        if not self._modules:
            export = self.talker.load()
            self._modules = {name: export.modules[name] for name in ("talker", "codec")}
        for module in self._modules.values():
            module.to(device)
        voice = self._make_voice(self._modules["talker"], self._modules["codec"])
        said = [voice.in_words(text) for text in texts]
        _warn_of_unspeakable(said)
        spoken = [each.text for each in said if each.text]
        waveforms: list[Tensor] = []
        if spoken:
            codes, _ = voice.say(spoken, [0] * len(spoken))
            codec: Any = self._modules["codec"]
            waveforms = [self.vocoder(codec.decode(row[None])[0]).cpu() for row in codes]
        heard = self.judge.on(device)(waveforms) if waveforms else []
        transcripts, each = iter([voice.in_words(text).text for text in heard]), iter(waveforms)
        return (
            [next(transcripts) if one.text else "" for one in said],
            [voice.in_words(text).text for text in truth],
            [next(each) if one.text else None for one in said],
        )

    def examples(
        self, split: str, heard: list[str], truth: list[str], waveforms: list[Tensor | None]
    ) -> list[dict[str, Any]]:
        """What was heard of each text that made a sound, with the sound."""
        return [
            {
                "split": split, "id": f"tts-{index}", "task": "tts", "kind": "spoken", "question": truth[index],
                "answer": answer, "truth": truth[index], "waveform": waveforms[index], "sample_rate": self.sample_rate,
            }
            for index, answer in enumerate(heard)
            if waveforms[index] is not None
        ]  # fmt: skip


def _warn_of_unspeakable(said: list[SpokenText]) -> None:
    if holes := [each for each in said if each.left_out]:
        log.warning(
            "%d of %d answers hold characters that cannot be spoken; the first: %r",
            len(holes), len(said), holes[0].left_out,
        )  # fmt: skip
