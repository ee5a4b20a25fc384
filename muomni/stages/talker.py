"""Talker: text -> codes of the frozen codec.

A recognizer's alignment says when each character is spoken in the recording; the Talker learns to predict it.

Teacher forcing with corrupted history: the codes of a previous frame are replaced by random ones with a probability, so
that the Talker leans on the text and recovers from its own errors (scheduled sampling's aim, Bengio et al. 2015,
arXiv:1506.03099, without its cost).

Legend: B batch, T mel frames, M mel bins, T' code frames, K codebooks, E entries, N samples.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from muomni.batch import SpeechBatch
from muomni.checkpoints.export import Export, weights_fingerprint
from muomni.evaluation.judge import Judge
from muomni.evaluation.talker import TalkerEvaluator
from muomni.losses.codec import duration_loss, talker_losses
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.stages.base import Stage
from muomni.stages.training_options import TrainingOptions


def corrupt_history(codes: Tensor, *, probability: float, size: int) -> Tensor:
    """codes (B, T', K): all codes of a frame become random ones in 0..size-1 with the given probability."""
    hit = torch.rand(codes.shape[:2], device=codes.device) < probability
    return torch.where(hit[..., None], torch.randint_like(codes, size), codes)


class TalkerStage(Stage):
    """Cross-entropy of the next frame's codes and of the stop.

    Args:
        model: the Talker. codec: the export of stage=codec.
        aligner: finds the characters of a text in a recording.
        evaluator: model, codec, and `sample_rate` -> what measures them.
        disturbance: probability that a previous frame is replaced. jitter: standard deviation, in frames, of a clip's
            shift of all characters' times while training, since predicted times are not exact.
        mel: metadata of the spectrogram, which must be the codec's.
    """

    name = "talker"

    def __init__(
        self,
        *,
        model: Talker,
        codec: Export,
        aligner: Judge,
        evaluator: Callable[..., TalkerEvaluator],
        disturbance: float,
        jitter: float,
        mel: Mapping[str, Any],
        training: TrainingOptions,
    ) -> None:
        frozen = codec.modules["codec"].requires_grad_(False)
        super().__init__(training, evaluator=evaluator(model, frozen, sample_rate=mel["sample_rate"]))
        self.model, self.codec, self.mel = model, cast("Codec", frozen), dict(mel)
        self.codec_metadata = codec.metadata
        self._check_codec(str(codec.folder))
        self.aligner, self.disturbance = aligner, disturbance
        self.jitter = jitter
        self.frame_rate = self.mel["sample_rate"] / self.mel["hop"] / self.codec.stride
        self._aligned: dict[tuple[str, str], Tensor] = {}  # by recording and text: ids of two manifests may be the same

    def _check_codec(self, folder: str) -> None:
        if self.codec_metadata["mel"] != self.mel:
            raise ValueError(f"{folder}: the codec's mel {self.codec_metadata['mel']} is not this run's {self.mel}")
        size, own = self.codec.codebook_size, self.model.codebook_size
        if size != own or self.codec.num_codebooks < self.model.num_codebooks:
            raise ValueError(
                f"{folder}: the codec has {self.codec.num_codebooks} codebooks of {size}, the Talker speaks "
                f"{self.model.num_codebooks} of {own}; set backbone.talker.num_codebooks and codebook_size"
            )

    def train(self, mode: bool = True) -> "TalkerStage":
        """The codec stays as it is: frozen, and out of its training mode."""
        super().train(mode)
        self.codec.eval()
        return self

    def sharded_modules(self) -> list[nn.Module]:
        return list(self.model.transformer.blocks)

    def compiled_modules(self) -> list[nn.Module]:
        return list(self.model.transformer.blocks)

    def _codes(self, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """(B, T', K) of the codebooks that the Talker speaks, and their lengths."""
        with torch.no_grad():
            codes = self.codec.encode(batch.mel, batch.mel_lengths)[..., : self.model.num_codebooks]
        return codes, self.codec.code_lengths(batch.mel_lengths)

    def _char_times(self, batch: SpeechBatch) -> Tensor:
        """(B, C) in code frames; each clip is aligned once, and remembered. Padding goes on rising.

        Alone: among others its last bits would depend on them, and a resumed run, which has yet to align all, would differ.
        """
        keys = list(zip(batch.audio, batch.texts, strict=True))
        for key in keys:
            if key not in self._aligned:
                (seconds,) = self.aligner.on(self.device).align([key[0]], [key[1]])
                self._aligned[key] = seconds * self.frame_rate
        B, C = batch.characters.shape
        times = torch.zeros(B, C)
        for row, key in enumerate(keys):
            known = self._aligned[key]
            times[row, : len(known)] = known
            times[row, len(known) :] = known[-1] + torch.arange(1, C - len(known) + 1)
        return times.to(self.device, non_blocking=True)

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Losses by codebook, of the stop, and of the durations (`place`)."""
        codes, lengths = self._codes(batch)
        history = codes
        if self.training and self.disturbance:
            history = corrupt_history(codes, probability=self.disturbance, size=self.model.codebook_size)
        times = self._char_times(batch)
        used = times + self.jitter * torch.randn(len(times), 1, device=self.device) if self.training else times
        output = self.model(
            batch.characters, batch.character_lengths, history, speakers=batch.speakers, char_times=used
        )
        duration = duration_loss(output.durations, times, batch.character_lengths)
        return {**talker_losses(output, codes, lengths), "place": duration}

    def loss_names(self) -> tuple[str, ...]:
        return (*(f"codebook_{k}" for k in range(self.model.num_codebooks)), "stop", "place")

    def target_counts(self, batch: SpeechBatch) -> dict[str, Any]:
        """Rows of codes, clips to stop, characters."""
        frames = self.codec.code_lengths(batch.mel_lengths).sum()
        codebooks = dict.fromkeys((f"codebook_{k}" for k in range(self.model.num_codebooks)), frames)
        return {**codebooks, "stop": len(batch.sample_ids), "place": batch.character_lengths.sum()}

    def export_modules(self) -> dict[str, nn.Module]:
        return {"talker": self.model, "codec": self.codec}

    def export_metadata(self) -> dict[str, Any]:
        """The codec's spectrogram and fingerprint: other codes would be noise."""
        own = {} if self.model.characters is None else {"characters": self.model.characters}
        return {"stage": self.name, "codec_mel": self.mel, "codec": weights_fingerprint(self.codec), **own}
