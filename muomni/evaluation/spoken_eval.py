"""What a listener hears when the frozen Talker speaks the Thinker's answers.

Legend: M mel bins, N samples.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from muomni.checkpoints.export import check_same
from muomni.stages.codec import Judge
from muomni.stages.talker import Voice

log = logging.getLogger(__name__)


class SpokenAnswers:
    """Talker, codec, vocoder and judge, all frozen; not a module, so that a stage neither trains nor saves them.

    Args:
        talker: the export of stage=talker. voice: Talker, codec -> `Voice`. vocoder: mel (T, M) -> waveform (N).
        mel: the vocoder's spectrogram (`MelSpec`), which must be the one that the Talker's codec rebuilds.
        judge: a recogniser.
    """

    def __init__(
        self,
        *,
        talker: Any,
        voice: Callable[[nn.Module, nn.Module], Voice],
        vocoder: Callable[[Tensor], Tensor],
        mel: Any,
        judge: Judge,
    ) -> None:
        check_same(talker.facts, {"codec_mel": mel.facts()}, where=str(talker.folder))
        self.sample_rate: int = mel.sample_rate
        self.export, self.vocoder, self.judge = talker, vocoder, judge
        self.voice = voice(talker.parts["talker"], talker.parts["codec"])

    def to(self, device: torch.device) -> "SpokenAnswers":
        """All of them on a device, in place."""
        for part in self.parts().values():
            part.to(device)
        if hasattr(self.judge, "to"):
            self.judge.to(device)
        return self

    def parts(self) -> dict[str, nn.Module]:
        """What an omni model needs to speak."""
        return {"talker": self.export.parts["talker"], "codec": self.export.parts["codec"]}

    def facts(self) -> dict[str, Any]:
        """The Talker's own facts, its stage's name left out."""
        return {key: value for key, value in self.export.facts.items() if key not in ("stage", "run")}

    def in_words(self, texts: list[str]) -> list[str]:
        """The texts as they are said: what the judge is compared with."""
        return [self.voice.in_words(text).text for text in texts]

    def heard(self, texts: list[str]) -> tuple[list[str], list[Tensor | None]]:
        """What the judge hears of each text spoken by the narrator, in words, and the sounds; a text of which nothing is
        said is silence. What has no words is counted and logged."""
        written = [self.voice.in_words(text) for text in texts]
        if holes := [said for said in written if said.left_out]:
            log.warning(
                "%d of %d answers hold characters that cannot be spoken; the first: %r", len(holes), len(texts),
                holes[0].left_out,
            )  # fmt: skip
        texts = [said.text for said in written]
        spoken = [text for text in texts if text]
        sounds: list[Tensor] = []
        if spoken:
            codes, _ = self.voice.say(spoken, [0] * len(spoken))
            codec = self.export.parts["codec"]
            sounds = [self.vocoder(codec.decode(row[None])[0]).cpu() for row in codes]
        texts_heard = iter(self.in_words(self.judge(sounds)) if sounds else [])
        each = iter(sounds)
        return (
            [next(texts_heard) if text else "" for text in texts],
            [next(each) if text else None for text in texts],
        )

    def shown(
        self, split: str, heard: list[str], truth: list[str], sounds: list[Tensor | None]
    ) -> list[dict[str, Any]]:
        """Samples of a split: what was heard of each text that made a sound, with the sound."""
        return [
            {
                "split": split, "id": f"tts-{place}", "task": "tts", "kind": "spoken", "question": truth[place],
                "answer": answer, "truth": truth[place], "waveform": sounds[place], "sample_rate": self.sample_rate,
            }
            for place, answer in enumerate(heard)
            if sounds[place] is not None
        ]  # fmt: skip
