"""Codec: log-mel -> codes -> log-mel, judged by what a recogniser hears in the sound made of it.

Legend: B batch, T mel frames, M mel bins, T' code frames, K codebooks, N samples.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from muomni.batch import SpeechBatch
from muomni.losses.codec import masked_l1, masked_l2
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.codec import Codec
from muomni.models.outputs import CodecOutput
from muomni.nn.conv import frame_mask
from muomni.stages.base import Stage

SHOWN = 3  # recordings of a split that `samples` gives


class Judge(Protocol):
    """A recogniser trained apart (muomni/inference/asr/recognizer.py)."""

    def __call__(self, waveforms: list[Tensor]) -> list[str]:
        """Waveforms (N) -> texts."""
        ...

    def read(self, paths: list[str]) -> tuple[list[Tensor], list[str]]:
        """Files -> waveforms and texts."""
        ...


class CodecStage(Stage):
    """Reconstruction and commitment.

    Metrics of a split: `mel_l1` (mean absolute difference of log-mels, in their standard deviations), `cer_recorded`,
    `cer_resynthesis` (recordings and their resynthesis, by the judge), `cer_gap` (the difference), `wer_resynthesis`,
    `cer_shuffled` (resynthesis against other items' texts), `codes_used` (percent of the worst codebook's entries that
    occur in the split), `codes_used_mean`.

    Args:
        model: the codec. judge: see `Judge`; None leaves out the error rates. vocoder: mel (T, M) -> waveform (N).
        mel: facts of the spectrogram.
    """

    name = "codec"
    gathered = ("_counts", "_l1", "_frames", "_truth", "_recorded", "_heard")

    def __init__(
        self,
        *,
        model: Codec,
        judge: Judge | None,
        vocoder: Callable[[Tensor], Tensor],
        mel: Mapping[str, Any],
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.model, self.judge, self.vocoder, self.mel = model, judge, vocoder, dict(mel)

    def companions(self) -> list[Any]:
        """The judge."""
        return [self.judge]

    def compiled_modules(self) -> list[nn.Module]:
        """Encoder and decoder; the quantiser between them looks at its averages."""
        return [self.model.encoder, self.model.decoder]

    def step(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """L1 and L2 of the log-mel, and commitment."""
        output: CodecOutput = self.model(batch.mel, batch.mel_lengths)
        keep = frame_mask(batch.mel_lengths, batch.mel.shape[1])
        return {
            "l1": masked_l1(output.mel, batch.mel, keep),
            "l2": masked_l2(output.mel, batch.mel, keep),
            "commitment": output.commitment,
        }

    def loss_names(self) -> tuple[str, ...]:
        """See `step`."""
        return ("l1", "l2", "commitment")

    def target_counts(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Mel frames; rows of codes."""
        frames = batch.mel_lengths.sum()
        return {"l1": frames, "l2": frames, "commitment": self.model.code_lengths(batch.mel_lengths).sum()}

    def begin_split(self, split: str) -> None:
        """Nothing rebuilt yet."""
        shape = (self.model.num_codebooks, self.model.codebook_size)
        self._counts = torch.zeros(shape, dtype=torch.long, device=self.device)
        self._l1, self._frames = 0.0, 0
        self._truth: list[str] = []
        self._recorded: list[str] = []
        self._heard: list[str] = []
        self._shown = [sample for sample in self._shown if sample["split"] != split]

    @torch.no_grad()
    def test_batch(self, batch: SpeechBatch, split: str) -> None:
        """Rebuild, count codes, and let the judge hear recording and resynthesis."""
        output: CodecOutput = self.model(batch.mel, batch.mel_lengths)
        keep = frame_mask(batch.mel_lengths, batch.mel.shape[1])
        frames = int(keep.sum())
        self._l1 += float(masked_l1(output.mel, batch.mel, keep)) * frames
        self._frames += frames
        spoken = output.codes[frame_mask(self.model.code_lengths(batch.mel_lengths), output.codes.shape[1])]
        for k, counts in enumerate(self._counts):
            counts += torch.bincount(spoken[:, k], minlength=self.model.codebook_size)
        if self.judge is not None:
            self._judge_batch(batch, output.mel, split)

    def _judge_batch(self, batch: SpeechBatch, mel: Tensor, split: str) -> None:
        assert self.judge is not None
        lengths = batch.mel_lengths.tolist()
        waveforms = [self.vocoder(row[:length]).cpu() for row, length in zip(mel, lengths, strict=True)]
        recordings, recorded = self.judge.read(batch.audio)
        heard = self.judge(waveforms)
        for row in range(min(SHOWN - len(self._heard), len(heard))):
            source = {"split": split, "id": batch.sample_ids[row], "question": "transcribe", "truth": batch.texts[row]}
            versions = {"recorded": (recordings[row], recorded[row]), "codec": (waveforms[row], heard[row])}
            for kind, (waveform, text) in versions.items():
                rates = error_rates([text], [batch.texts[row]])
                sound = {"kind": kind, "waveform": waveform, "sample_rate": self.mel["sample_rate"]}
                self._shown.append({**source, **sound, "answer": text, **rates})
        self._truth += batch.texts
        self._recorded += recorded
        self._heard += heard

    def finish_split(self, split: str) -> dict[str, float]:
        """Distances, use of the codes, error rates."""
        used = 100 * (self._counts > 0).float().mean(dim=1)
        metrics = {
            "mel_l1": self._l1 / self._frames,
            "codes_used": float(used.min()),
            "codes_used_mean": float(used.mean()),
        }
        if self._heard:
            recorded, heard = error_rates(self._recorded, self._truth), error_rates(self._heard, self._truth)
            metrics |= {
                "cer_recorded": recorded["cer"],
                "cer_resynthesis": heard["cer"],
                "cer_gap": heard["cer"] - recorded["cer"],
                "wer_resynthesis": heard["wer"],
                "cer_shuffled": error_rates(self._heard, shuffled(self._truth))["cer"],
            }
        return metrics

    def samples(self) -> list[dict[str, Any]]:
        """Recorded and rebuilt sounds, with what the judge heard."""
        return self._shown

    def export_parts(self) -> dict[str, nn.Module]:
        """The codec."""
        return {"codec": self.model}

    def export_facts(self) -> dict[str, Any]:
        """The spectrogram it rebuilds."""
        return {"stage": self.name, "mel": self.mel}
