"""The codec: distance of the rebuilt mel, use of the codebooks, and what a recognizer makes of the resynthesis.

Legend: B batch, T mel frames, M mel bins, T' code frames, K codebooks, E entries, N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muomni.batch import SpeechBatch
from muomni.evaluation.base import Evaluator, State
from muomni.evaluation.judge import Judge
from muomni.losses.codec import masked_l1
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.codec import Codec
from muomni.models.outputs import CodecOutput
from muomni.nn.conv import frame_mask

MAX_EXAMPLES = 3  # recordings


@dataclass
class CodecState(State):
    """code_counts: (K, E) long. l1: sum over frames. recorded, rebuilt: texts heard in recordings and in their resynthesis."""

    code_counts: Tensor
    l1: float = 0.0
    frames: int = 0
    truth: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)


class CodecEvaluator(Evaluator[CodecState]):
    """`mel_l1` (mean absolute difference of log-mels, in their standard deviations), `cer_recorded`, `cer_resynthesis`
    (recordings and their resynthesis, by the judge), `cer_gap` (the difference), `wer_resynthesis`, `cer_shuffled`
    (resynthesis against other items' texts), `codes_used` (percent of the worst codebook's entries that occur in the split),
    `codes_used_mean`.

    Args:
        model: the codec. judge: None leaves out the error rates. vocoder: mel (T, M) -> waveform (N).
        sample_rate: of the spectrogram, in Hz.
    """

    model: Codec

    def __init__(
        self, model: Codec, *, judge: Judge | None, vocoder: Callable[[Tensor], Tensor], sample_rate: int
    ) -> None:
        super().__init__(model)
        self.judge, self.vocoder, self.sample_rate = judge, vocoder, sample_rate

    def new_state(self) -> CodecState:
        shape = (self.model.num_codebooks, self.model.codebook_size)
        return CodecState(code_counts=torch.zeros(shape, dtype=torch.long))

    @torch.no_grad()
    def update(self, batch: SpeechBatch) -> None:
        output: CodecOutput = self.model(batch.mel, batch.mel_lengths)
        keep = frame_mask(batch.mel_lengths, batch.mel.shape[1])
        frames, state = int(keep.sum()), self.state
        state.l1 += float(masked_l1(output.mel, batch.mel, keep)) * frames
        state.frames += frames
        codes = output.codes[frame_mask(self.model.code_lengths(batch.mel_lengths), output.codes.shape[1])].cpu()
        for k, counts in enumerate(state.code_counts):
            counts += torch.bincount(codes[:, k], minlength=self.model.codebook_size)
        if self.judge is not None:
            self._listen(batch, output.mel, self.judge)

    def _listen(self, batch: SpeechBatch, mel: Tensor, judge: Judge) -> None:
        """Transcribe recordings and resynthesis."""
        recognizer, state = judge.on(mel.device), self.state
        lengths = batch.mel_lengths.tolist()
        waveforms = [self.vocoder(row[:length]).cpu() for row, length in zip(mel, lengths, strict=True)]
        recordings, recorded = recognizer.read(batch.audio)
        rebuilt = recognizer(waveforms)
        for row in range(min(MAX_EXAMPLES - len(state.rebuilt), len(rebuilt))):
            source = {
                "split": self.split, "id": batch.sample_ids[row], "question": "transcribe", "truth": batch.texts[row],
            }  # fmt: skip
            versions = {"recorded": (recordings[row], recorded[row]), "codec": (waveforms[row], rebuilt[row])}
            for kind, (waveform, text) in versions.items():
                rates = error_rates([text], [batch.texts[row]])
                sound = {"kind": kind, "waveform": waveform, "sample_rate": self.sample_rate}
                state.examples.append({**source, **sound, "answer": text, **rates})
        state.truth += batch.texts
        state.recorded += recorded
        state.rebuilt += rebuilt

    def compute(self) -> dict[str, float]:
        state = self.state
        used = 100 * (state.code_counts > 0).float().mean(dim=1)
        metrics = {
            "mel_l1": state.l1 / state.frames,
            "codes_used": float(used.min()),
            "codes_used_mean": float(used.mean()),
        }
        if state.rebuilt:
            recorded, rebuilt = error_rates(state.recorded, state.truth), error_rates(state.rebuilt, state.truth)
            metrics |= {
                "cer_recorded": recorded["cer"],
                "cer_resynthesis": rebuilt["cer"],
                "cer_gap": rebuilt["cer"] - recorded["cer"],
                "wer_resynthesis": rebuilt["wer"],
                "cer_shuffled": error_rates(state.rebuilt, shuffled(state.truth))["cer"],
            }
        return metrics
