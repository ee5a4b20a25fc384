"""A voice that is taken from a recording of somebody, in place of a number of the Talker's.

Legend: N samples, T frames of codes, K codebooks, M mel bins, D width.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.audio_io import resample
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.pitch import RATE, pitches, two_voices
from muomni.frontends.pretrained_audio import audio_frontend
from muomni.inference.errors import InvalidMedia, InvalidOption
from muomni.inference.media import name_of, read_waveform
from muomni.inference.sources import Source, in_memory
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.models.waveform_codec import WaveformCodec
from muomni.short_repr import shown

LONGEST, SHORTEST = 60.0, 1.0  # seconds of a recording that are read, and that somebody must speak in them
SILENT = 1e-3  # largest sample of a recording in which nobody speaks
SPEECH = HearingSpec(level=-7.0, margin=0.1, pause=0.5, threshold=4.0, edge=1.5)
ANALYSED = MelSpec(
    sample_rate=16000, hop=160, n_fft=1024, win=400, bins=64, f_min=0.0, f_max=8000.0, log=True, floor=1e-5
)  # where speech is looked for, whatever the codec's rate is


@dataclass(frozen=True, eq=False)
class ReferenceVoice:
    """vector: (D), for the Talker that made it. source: what it was taken from, for messages."""

    vector: Tensor
    source: str


#: A speaker's number, or the voice of a recording.
Voice = int | ReferenceVoice
#: The same, or the recording.
VoiceSource = Voice | Source


def speakers_of(talker: Talker, voices: Sequence[Voice]) -> Tensor:
    """Voices as the Talker takes them: numbers (B), or vectors (B, D) if any is one."""
    numbers = torch.tensor([each if isinstance(each, int) else 0 for each in voices], device=talker.start.device)
    if all(isinstance(each, int) for each in voices):
        return numbers
    rows = zip(voices, talker.text.speaker_vectors(numbers), strict=True)
    return torch.stack([vector if isinstance(each, int) else each.vector for each, vector in rows])


@functools.cache
def _hearing() -> Hearing:
    return Hearing(ANALYSED, SPEECH)


class ReferenceReader:
    """Callable: a recording -> its `ReferenceVoice`.

    Args:
        mel: what a codec of mels reads; None for a codec of waveforms.
    """

    def __init__(self, talker: Talker, codec: Codec | WaveformCodec, mel: MelSpec | None) -> None:
        self.talker, self.codec = talker, codec
        self.frontend = None if mel is None else audio_frontend(mel)
        if mel is None:
            assert isinstance(codec, WaveformCodec), "a codec of mels has a spectrogram"
            self.sample_rate = codec.sample_rate
        else:
            self.sample_rate = mel.sample_rate

    @torch.inference_mode()
    def __call__(self, source: Source) -> ReferenceVoice:
        """Raises InvalidMedia for a recording that cannot be read, of silence, of too little speech, or of two voices that can be
        told apart; FileNotFoundError."""
        source = in_memory(source, what="voice")
        if self.talker.reference is None:
            raise InvalidOption(
                f"voice={shown(name_of(source), str, most=200)}: this Talker knows its voices by number, 0 to "
                f"{self.talker.num_speakers - 1}: train stage=talker backbone.talker.speaker_vector=true for the voices of "
                "recordings",
                param="voice",
            )
        speech = self.speech_of(
            read_waveform(source, self.sample_rate, seconds=LONGEST, param="voice"), name_of(source)
        )
        device = self.talker.start.device
        if self.frontend is None:
            codes = self.codec.encode(speech[None].to(device))
        else:
            codes = self.codec.encode(self.frontend(speech)[None].to(device))
        codes = codes[..., : self.talker.num_codebooks]
        lengths = torch.tensor([codes.shape[1]], device=device)
        return ReferenceVoice(self.talker.speaker_vectors(codes, lengths)[0], name_of(source))

    def speech_of(self, waveform: Tensor, name: str) -> Tensor:
        """What of a waveform (N,) somebody says."""
        silent = not len(waveform) or float(waveform.abs().max()) < SILENT
        short = silent or len(waveform) < self.sample_rate * SHORTEST
        spans = [] if short else _hearing()(resample(waveform, self.sample_rate, ANALYSED.sample_rate)).spans
        hop = self.sample_rate / ANALYSED.frame_rate
        parts = [waveform[round(begin * hop) : round(end * hop)] for begin, end in spans]
        speech = torch.cat(parts) if parts else waveform[:0]
        seconds = len(speech) / self.sample_rate
        if seconds < SHORTEST:
            heard = f"{seconds:.1f} s of speech" if spans else "no speech"
            raise InvalidMedia(
                f"{name}: {heard} in {len(waveform) / self.sample_rate:.1f} s: a voice is taken from {SHORTEST:g} s of it or "
                "more",
                param="voice",
            )
        two = two_voices(pitches(resample(speech, self.sample_rate, RATE)))
        if two is not None:
            raise InvalidMedia(
                f"{name}: two voices speak in it, at about {two[0]:.0f} and {two[1]:.0f} Hz: cut out a part in which one does",
                param="voice",
            )
        return speech
