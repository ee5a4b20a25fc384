"""Audio encoder: speech -> characters by CTC.

Legend: B batch, T mel frames, T' encoder frames.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muomni.batch import SpeechBatch
from muomni.distributed import collectives
from muomni.losses.ctc import ctc_loss, frames_needed
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.audio import Audio
from muomni.models.outputs import AudioOutput
from muomni.stages.base import Stage

SHOWN = 4  # transcripts of a split that `samples` gives


class AudioStage(Stage):
    """CTC.

    Metrics of a split: `cer`, `wer` (percent, corpus level, greedy decoding), `cer_shuffled` (against other items'
    texts: what knowing the language alone would give), `too_short` (percent of clips whose frames cannot carry their
    transcript; they count in the error rates, and take no part in the loss).

    Args:
        model: the encoder with its head. read: its output -> texts (with `characters=` where it has its own). mel, hearing:
            facts of the spectrogram, and of how clips were prepared; None: they were not.
    """

    name = "audio"
    gathered = ("_heard", "_truth", "_too_short")

    def __init__(
        self,
        *,
        model: Audio,
        read: Callable[..., list[str]],
        mel: Mapping[str, Any],
        hearing: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.model, self.mel = model, dict(mel)
        self.read = read if model.characters is None else functools.partial(read, characters=model.characters)
        self.hearing = None if hearing is None else dict(hearing)

    def sharded_modules(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.model.encoder.transformer.blocks)

    def compiled_modules(self) -> list[nn.Module]:
        """The blocks of the encoder."""
        return list(self.model.encoder.transformer.blocks)

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """CTC, in nats a character."""
        output: AudioOutput = self.model(batch.mel, batch.mel_lengths)
        known = None
        if batch.frame_counts is not None and batch.character_counts is not None and batch.frames_needed is not None:
            frames = [self.model.encoder.stem.out_lengths(count) for count in batch.frame_counts]
            known = frames, batch.character_counts, batch.frames_needed
        ctc = ctc_loss(output.logits, output.lengths, batch.characters, batch.character_lengths, known=known)
        if self.training:  # of the clips of all ranks
            short, clips = collectives.all_reduce_sum(
                torch.stack([ctc.too_short, torch.ones_like(ctc.too_short)]).sum(dim=1)
            ).unbind()
            self.log("audio/train/too_short", 100 * short / clips, batch_size=len(batch.sample_ids))
        return {"ctc": ctc.loss}

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return ("ctc",)

    def target_counts(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Characters of the clips that can carry theirs."""
        lengths = self.model.encoder.stem.out_lengths(batch.mel_lengths)
        fits = lengths >= frames_needed(batch.characters, batch.character_lengths)
        return {"ctc": (batch.character_lengths * fits).sum()}

    def begin_split(self, split: str) -> None:
        """Nothing heard yet."""
        self._heard: list[str] = []
        self._truth: list[str] = []
        self._too_short = 0
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: SpeechBatch, split: str) -> None:
        """Transcribe."""
        output = self.model(batch.mel, batch.mel_lengths)
        texts = self.read(output)
        needed = frames_needed(batch.characters, batch.character_lengths)
        self._too_short += int((output.lengths < needed).sum())
        for row in range(min(SHOWN - len(self._heard), len(texts))):
            source = {"split": split, "id": batch.sample_ids[row], "audio": batch.audio[row], "question": "transcribe"}
            self._shown.append({**source, "answer": texts[row], "truth": batch.texts[row]})
        self._heard += texts
        self._truth += batch.texts

    def finish_split(self, split: str) -> dict[str, float]:
        """Error rates."""
        return {
            **error_rates(self._heard, self._truth),
            "cer_shuffled": error_rates(self._heard, shuffled(self._truth))["cer"],
            "too_short": 100 * self._too_short / len(self._truth),
        }

    def samples(self) -> list[dict[str, Any]]:
        """Recordings with transcript and truth."""
        return self._shown

    def export_parts(self) -> dict[str, nn.Module]:
        """The encoder with its head."""
        return {"audio": self.model}

    def export_facts(self) -> dict[str, Any]:
        """The spectrogram it hears, how recordings are prepared for it, and the characters that it writes where they are its
        own."""
        own = {} if self.model.characters is None else {"characters": self.model.characters}
        return {"stage": self.name, "mel": self.mel, "hearing": self.hearing, **own}
