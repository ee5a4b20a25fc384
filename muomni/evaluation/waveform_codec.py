"""The codec of waveforms: as the codec of mels, on the waveforms that it makes, and how near they are to the recordings.

Legend: N samples, K codebooks.
"""

from dataclasses import dataclass

import torch

from muomni.batch import WaveformBatch
from muomni.evaluation.base import add
from muomni.evaluation.codec import CodecScores
from muomni.evaluation.independent import similarity
from muomni.evaluation.views import ROWS, View, heat_map
from muomni.evaluation.vocoder import mel_distance
from muomni.frontends.mel import LogMel
from muomni.models.fourier_codec import FourierCodec
from muomni.models.outputs import WaveformCodecOutput


@dataclass(eq=False, repr=False, kw_only=True)
class WaveformCodecEvaluator(CodecScores):
    """See `CodecScores`; also without a judge `stoi_resynthesis` and `pesq_resynthesis`, where their packages are installed.

    Args:
        log_mel: the spectrogram by which waveforms are compared. hop: samples of its frames.
    """

    model: FourierCodec
    log_mel: LogMel
    hop: int

    @torch.no_grad()
    def update(self, batch: WaveformBatch) -> None:
        lengths, state = batch.mel_lengths * self.hop, self.state
        output: WaveformCodecOutput = self.model(batch.waveform, lengths)
        self.count_codes(output.codes, self.model.code_lengths(lengths))
        rows = lengths.tolist()
        rebuilt = [row[:length] for row, length in zip(output.waveform, rows, strict=True)]
        recorded = [row[:length] for row, length in zip(batch.waveform, rows, strict=True)]
        for made, real in zip(rebuilt, recorded, strict=True):
            frames = len(real) // self.hop
            state.l1 += float(mel_distance(self.log_mel, made[None], real[None])) * frames
            state.frames += frames
        waveforms = {"codec": [row.cpu() for row in rebuilt], "recorded": [row.cpu() for row in recorded]}
        if self.independent is None:  # which measures the same
            add(state.quality, similarity(waveforms, aligned=self.aligned, sample_rate=self.sample_rate))
        self.transcribe(batch, waveforms, question="transcribe")

    @torch.no_grad()
    def views(self, batch: WaveformBatch) -> list[View]:
        """What the codec makes of recordings: to listen to, and its spectrogram below the recording's; how often each entry is
        used."""
        lengths = batch.mel_lengths * self.hop
        output: WaveformCodecOutput = self.model(batch.waveform, lengths)
        shown = [self.code_use(output.codes, self.model.code_lengths(lengths))]
        for row, length in enumerate(lengths.tolist()[:ROWS]):
            clip = output.waveform[row, :length].float()
            both = torch.cat(
                [self.log_mel.transform(clip[None])[0], batch.mel[row, : length // self.hop].float()], dim=-1
            )
            shown.append(
                View("spectrogram", f"above recorded, below rebuilt: {batch.texts[row]}", heat_map(both.T, scale=2))
            )
            shown.append(View("rebuilt", batch.texts[row], waveform=clip.cpu(), sample_rate=self.sample_rate))
        return shown
