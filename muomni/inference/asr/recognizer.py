"""Batched speech recognition of clips by greedy CTC: the judge of codec, Talker and vocoder.

Legend: B clips, T mel frames, M mel bins, N samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni import aliases
from muomni.checkpoints.export import load_export
from muomni.frontends.audio_io import read_audio
from muomni.frontends.char_vocab import ctc_frames_needed, encode_characters, read_ctc
from muomni.frontends.hearing import Hearing, HearingSpec, hearing_of
from muomni.frontends.mel import MelSpec
from muomni.frontends.memory_file import File
from muomni.inference.asr.alignment import align_words, character_spans, unit_ends
from muomni.models.encoders import AudioEncoder
from muomni.models.outputs import AudioOutput


def greedy_texts(output: AudioOutput, *, characters: str | None = None) -> list[str]:
    """The most likely symbol of every valid frame, collapsed: one stripped text per clip. characters: the encoder's
    alphabet."""
    return read_ctc(output.logits, output.lengths, characters)


@dataclass(frozen=True, slots=True)
class ClipAlignment:
    """times: seconds, ascending. too_short: the encoder has fewer frames than the text needs, over which its characters are then
    spread evenly."""

    times: Tensor
    too_short: bool


class Recognizer:
    """Transcribes waveforms and files.

    Args:
        audio: a trained encoder with its head. mel: the spectrogram it was trained on. hearing: preprocessing of waveforms.
        batch_size: clips per forward; clips of similar length share a batch.
    """

    def __init__(
        self, *, audio: AudioEncoder, mel: MelSpec, batch_size: int, hearing: HearingSpec | None = None
    ) -> None:
        self.audio, self.hear, self.batch_size = audio.eval(), Hearing(mel, hearing), batch_size
        self.sample_rate, self.frame_rate = mel.sample_rate, mel.frame_rate

    @classmethod
    def from_export(cls, folder: str | Path, *, batch_size: int) -> "Recognizer":
        """Load the export folder of stage=audio."""
        export = load_export(folder, ["audio"])
        audio = export.modules["audio"]
        assert isinstance(audio, AudioEncoder)
        if not audio.num_symbols:
            raise ValueError(
                f"{folder}: its audio encoder has no CTC head, it writes nothing: name an export of stage=audio"
            )
        hearing = hearing_of(export.metadata, where=str(folder))
        return cls(audio=audio, mel=MelSpec(**export.metadata["mel"]), batch_size=batch_size, hearing=hearing)

    def to(self, device: torch.device | str) -> "Recognizer":
        """Move the encoder, in place; waveforms are preprocessed on the CPU."""
        self.audio.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[Tensor]) -> list[str]:
        """waveforms (N_i), mono at the spectrogram's rate -> texts in the same order."""
        device = next(self.audio.parameters()).device
        mels = [self.hear(waveform.detach().cpu()).trimmed() for waveform in waveforms]
        order = sorted(range(len(mels)), key=lambda index: len(mels[index]))
        texts = [""] * len(mels)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            lengths = torch.tensor([len(mels[row]) for row in rows])
            padded = torch.nn.utils.rnn.pad_sequence([mels[row] for row in rows], batch_first=True)
            output = self._encode(padded.to(device), lengths.to(device))
            for row, text in zip(rows, greedy_texts(output, characters=self.audio.characters), strict=True):
                texts[row] = text
        return texts

    def align(self, paths: Sequence[File], texts: Sequence[str]) -> list[ClipAlignment]:
        """Files and their texts -> the time of each character (C): the centre of its frames on the best CTC path."""
        seconds = self.audio.downsample / self.frame_rate
        found = zip(self._spans(paths, texts), texts, strict=True)
        return [
            ClipAlignment((spans.mean(dim=1) + 0.5) * seconds, self._lacks_frames(total, text))
            for (spans, total), text in found
        ]

    def align_units(self, paths: Sequence[File], texts: Sequence[str]) -> list[ClipAlignment]:
        """As `align`: where the units of each text end, (C + 2), not falling: the silence before it, its characters, the
        silence after it (`unit_ends`)."""
        seconds = self.audio.downsample / self.frame_rate
        found = zip(self._spans(paths, texts), texts, strict=True)
        return [
            ClipAlignment(unit_ends(spans, text, total=total) * seconds, self._lacks_frames(total, text))
            for (spans, total), text in found
        ]

    def too_short(self, waveforms: Sequence[Tensor], texts: Sequence[str]) -> list[bool]:
        """Whether each waveform (N_i) is too short for its text, as `ClipAlignment` has it; nothing is encoded."""
        frames = (self.audio.out_lengths(self.hear.mel.num_frames(len(waveform))) for waveform in waveforms)
        return [self._lacks_frames(total, text) for total, text in zip(frames, texts, strict=True)]

    def _lacks_frames(self, total: int, text: str) -> bool:
        return total < ctc_frames_needed(encode_characters(text, self.audio.characters))

    @torch.inference_mode()
    def _spans(self, paths: Sequence[File], texts: Sequence[str]) -> list[tuple[Tensor, int]]:
        """Of each file the spans (C, 2) of its text's characters, and its frames."""
        device = next(self.audio.parameters()).device
        mels = [
            self.hear(read_audio(path, self.sample_rate)).mel for path in paths
        ]  # untrimmed: times of the recording
        lengths = torch.tensor([len(mel) for mel in mels])
        padded = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True)
        output = self._encode(padded.to(device), lengths.to(device))
        rows = zip(output.logits.log_softmax(-1).cpu(), output.lengths.tolist(), texts, strict=True)
        return [
            (character_spans(log_probs[:length], encode_characters(text, self.audio.characters)), length)
            for log_probs, length, text in rows
        ]

    @torch.inference_mode()
    def words(self, waveform: Tensor, text: str) -> list[tuple[str, float, float]]:
        """Where each word of a text is in a waveform (N) that is taken to say it: (word, start, end) in seconds, by forced
        alignment."""
        device = next(self.audio.parameters()).device
        mel = self.hear(waveform.detach().cpu()).mel  # untrimmed: times of the waveform
        output = self._encode(mel[None].to(device), torch.tensor([len(mel)], device=device))
        log_probs = output.logits[0, : int(output.lengths[0])].log_softmax(-1).cpu()
        seconds = self.audio.downsample / self.frame_rate
        found = align_words(log_probs, text, frame_seconds=seconds, offset=0.0, characters=self.audio.characters)
        return [(word.text, round(word.start, 3), round(word.end, 3)) for word in found]

    def _encode(self, mel: Tensor, lengths: Tensor) -> AudioOutput:
        """The encoder's output for mels (B, T, M), in float32 even under a stage's autocast."""
        with torch.autocast(mel.device.type, enabled=False):
            output: AudioOutput = self.audio(mel, lengths)
        return output

    def read(self, paths: Sequence[File]) -> tuple[list[Tensor], list[str]]:
        """Files -> waveforms (N_i) and texts."""
        waveforms = [read_audio(path, self.sample_rate) for path in paths]
        return waveforms, self(waveforms)


def __getattr__(name: str) -> Any:
    return aliases.attribute(__name__, name)
