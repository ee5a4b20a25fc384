"""The codec: distance of the rebuilt mel, use of the codebooks, and what judges make of the resynthesis.

Legend: T mel frames, M mel bins, K codebooks, E entries, N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from muomni.batch import SpeechBatch
from muomni.evaluation.synthesis import SynthesisEvaluator, SynthesisState
from muomni.evaluation.views import ROWS, View, heat_map
from muomni.losses.codec import masked_l1
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.codec import Codec
from muomni.models.outputs import CodecOutput
from muomni.nn.conv import frame_mask


@dataclass
class CodecState(SynthesisState):
    """code_counts: (K, E) long. l1: sum over frames."""

    code_counts: Tensor = field(init=False)
    l1: float = 0.0
    frames: int = 0


@dataclass(eq=False, repr=False, kw_only=True)
class CodecScores(SynthesisEvaluator[CodecState]):
    """Base of the evaluators of codecs: `mel_l1` (mean absolute difference of log-mels, in their standard deviations),
    `cer_recorded`, `cer_resynthesis` (recordings and their resynthesis, by the judge), `cer_gap` (the difference),
    `wer_resynthesis`, `cer_shuffled` (resynthesis against other items' texts), `codes_used` (percent of the worst codebook's
    entries that occur in the split), `codes_used_mean`. With judges what `SynthesisEvaluator.spread` has, too.
    """

    model: Any
    state_type, shown = CodecState, {"recorded": "recorded", "codec": "codec"}
    main, aligned = "codec", ("codec",)

    def named(self, measure: str, version: str) -> str:
        return f"{measure}_resynthesis" if version == "codec" else f"{measure}_{version}"

    def reset(self, split: str) -> None:
        super().reset(split)
        self.state.code_counts = torch.zeros(self.model.num_codebooks, self.model.codebook_size, dtype=torch.long)

    def count_codes(self, codes: Tensor, lengths: Tensor) -> None:
        """codes (B, T', K) of clips of so many (B) frames of codes."""
        codes = codes[frame_mask(lengths, codes.shape[1])].cpu()
        for k, counts in enumerate(self.state.code_counts):
            counts += torch.bincount(codes[:, k], minlength=self.model.codebook_size)

    def code_use(self, codes: Tensor, lengths: Tensor) -> View:
        """How often each entry occurs among codes (B, T', K), by codebook."""
        codes = codes[frame_mask(lengths, codes.shape[1])].cpu()
        counts = torch.stack([torch.bincount(each, minlength=self.model.codebook_size) for each in codes.T])
        shown = heat_map(counts.float().log1p(), scale=4)
        return View("code use", "codebooks by entries, log counts of a batch", shown)

    def compute(self) -> dict[str, float]:
        state = self.state
        used = 100 * (state.code_counts > 0).float().mean(dim=1)
        metrics = {
            "mel_l1": state.l1 / state.frames,
            "codes_used": float(used.min()),
            "codes_used_mean": float(used.mean()),
        }
        if state.texts:
            said, truth = self.pairs("codec")
            rebuilt = error_rates(said, truth)
            metrics |= {
                "cer_recorded": self.cer("recorded"),
                "cer_resynthesis": rebuilt["cer"],
                "cer_gap": rebuilt["cer"] - self.cer("recorded"),
                "wer_resynthesis": rebuilt["wer"],
                "cer_shuffled": error_rates(said, shuffled(truth))["cer"],
            }
        return metrics | self.spread() if state.truth else metrics


@dataclass(eq=False, repr=False, kw_only=True)
class CodecEvaluator(CodecScores):
    """Of a codec of mels.

    Args:
        vocoder: mel (T, M) -> waveform (N).
    """

    model: Codec
    vocoder: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def views(self, batch: SpeechBatch) -> list[View]:
        """Spectrograms of recordings and what the codec makes of them, and how often each entry is used, by codebook."""
        output: CodecOutput = self.model(batch.mel, batch.mel_lengths)
        shown = [self.code_use(output.codes, self.model.code_lengths(batch.mel_lengths))]
        for row in range(min(ROWS, len(batch.texts))):
            both = torch.cat([output.mel[row].float(), batch.mel[row].float()], dim=1)[: int(batch.mel_lengths[row])]
            shown.append(
                View("spectrogram", f"above recorded, below rebuilt: {batch.texts[row]}", heat_map(both.T, scale=2))
            )
        return shown

    @torch.no_grad()
    def update(self, batch: SpeechBatch) -> None:
        output: CodecOutput = self.model(batch.mel, batch.mel_lengths)
        keep = frame_mask(batch.mel_lengths, batch.mel.shape[1])
        frames, state = int(keep.sum()), self.state
        state.l1 += float(masked_l1(output.mel, batch.mel, keep)) * frames
        state.frames += frames
        self.count_codes(output.codes, self.model.code_lengths(batch.mel_lengths))
        if self.judge is not None or self.independent is not None:
            rows = zip(output.mel, batch.mel_lengths.tolist(), strict=True)
            rebuilt = [self.vocoder(mel[:length]).cpu() for mel, length in rows]
            self.transcribe(batch, {"codec": rebuilt}, question="transcribe")
