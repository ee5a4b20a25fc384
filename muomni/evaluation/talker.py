"""The Talker: a recognizer's transcripts of its speech, compared with those of the recordings and of the codec's resynthesis.

Legend: T mel frames, M mel bins, T' code frames, K codebooks, N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muomni.batch import SpeechBatch
from muomni.evaluation.base import add
from muomni.evaluation.clip_codes import ClipCodes
from muomni.evaluation.judge import Judge
from muomni.evaluation.synthesis import SynthesisEvaluator, SynthesisState
from muomni.evaluation.views import View, heat_map
from muomni.evaluation.voice_match import voice_match, voice_spectrum
from muomni.frontends.audio_io import read_audio
from muomni.inference.tts.reference import ReferenceVoice, Voice
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speech_decoder import whole_decoder
from muomni.inference.tts.text_states import TextStates as TextStates
from muomni.metrics.error_rates import error_rates, shuffled
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.models.waveform_codec import WaveformCodec


@dataclass
class TalkerState(SynthesisState):
    """And how many recordings are too short for their texts. voices: spectra of "reference", "spoken" and "recorded" clips
    (`voice_spectrum`), where there are references; speakers: theirs."""

    too_short: int = 0
    voices: dict[str, list[list[float]]] = field(default_factory=dict)
    speakers: list[int] = field(default_factory=list)


@dataclass(eq=False, repr=False, kw_only=True)
class TalkerEvaluator(SynthesisEvaluator[TalkerState]):
    """`cer`, `wer` (percent, of the judge's transcripts), `cer_shuffled` (against other items' texts), `runaway` (percent longer
    than twice the recording), `truncated` (percent cut by the limit on frames), `repeated` (percent with words said twice),
    `duration_ratio` (spoken over recorded, mean), `cer_recorded`, `cer_codec` (recordings, and the codec's resynthesis of them
    with as many codebooks as the Talker speaks), `too_short` (percent of recordings with fewer frames than the recognizer needs
    for their text: no alignment says when a character is spoken there), and what `SynthesisEvaluator.spread` has. Where batches
    have references, these are the voices, and `voice_match`, `voice_match_recorded` say whether speech has them, and recordings.

    Args:
        codec: whose codes it speaks. codes: finds those of a batch's clips, of as many codebooks as the Talker speaks.
        voice: Talker and codec -> what speaks with them. vocoder: mel (T, M) -> waveform (N), for a codec of mels.
        states: what the Talker is told, unless it reads the text alone.
    """

    model: Talker
    codec: Codec | WaveformCodec
    codes: ClipCodes
    judge: Judge
    voice: Callable[..., Speaker]
    vocoder: Callable[[Tensor], Tensor]
    states: TextStates | None = None
    state_type, shown = TalkerState, {version: version for version in ("recorded", "codec", "spoken")}
    main, aligned = "spoken", ("codec",)

    def __post_init__(self) -> None:
        told = {} if self.states is None else {"states": self.states}
        self.speaker = self.voice(self.model, self.codec, **told)
        self.waveform_of = whole_decoder(self.codec, self.vocoder, sample_rate=self.sample_rate)

    def compared(self, text: str) -> str:
        return self.speaker.in_words(text).text

    def named(self, measure: str, version: str) -> str:
        return measure if version == "spoken" else f"{measure}_{version}"

    @torch.no_grad()
    def update(self, batch: SpeechBatch) -> None:
        codes, code_lengths = self.codes(batch)
        lengths: list[int] = code_lengths.tolist()
        spoken, cut = self.speaker.say(batch.texts, self._voices(batch))
        rebuilt = [row[:length] for row, length in zip(codes, lengths, strict=True)]
        versions = {"codec": self._waveforms(rebuilt), "spoken": self._waveforms(spoken)}
        self.transcribe(batch, versions)
        if batch.references is not None:
            self._note_voices(batch, versions)
        short = self.judge.on(self.device).too_short(versions["recorded"], batch.texts)
        self.state.too_short += sum(short)
        self.state.cut += cut
        self.state.ratios += [len(row) / length for row, length in zip(spoken, lengths, strict=True)]

    @torch.no_grad()
    def views(self, batch: SpeechBatch) -> list[View]:
        """The first text, spoken; of a codec of mels with its spectrogram."""
        codes = self.speaker.say(batch.texts[:1], self._voices(batch)[:1])[0][0]
        text, sound = batch.texts[0], self.waveform_of(codes).detach().float().cpu()
        spoken = View("spoken", text, waveform=sound, sample_rate=self.sample_rate)
        if isinstance(self.codec, WaveformCodec):
            return [spoken]
        mel = self.codec.decode(codes[None])[0]
        return [spoken, View("spoken spectrogram", text, heat_map(mel.T, scale=2))]

    def _voices(self, batch: SpeechBatch) -> list[Voice]:
        """Of each clip the voice of its reference, or where there is none its speaker's number."""
        if batch.references is None or self.model.reference is None:
            return [min(speaker, self.model.num_speakers - 1) for speaker in batch.speakers.tolist()]
        vectors = self.model.speaker_vectors(*self.codes(batch.references))
        return [ReferenceVoice(vector, str(clip)) for vector, clip in zip(vectors, batch.references.audio, strict=True)]

    def _note_voices(self, batch: SpeechBatch, versions: dict[str, list[Tensor]]) -> None:
        assert batch.references is not None
        references = [read_audio(clip, self.sample_rate) for clip in batch.references.audio]
        for version, clips in (("reference", references), *((name, versions[name]) for name in ("spoken", "recorded"))):
            add(self.state.voices, {version: [voice_spectrum(clip, self.sample_rate) for clip in clips]})
        self.state.speakers += batch.speakers.tolist()

    def _voice_matches(self) -> dict[str, float]:
        """None where all clips are of one speaker."""
        voices, speakers, found = self.state.voices, self.state.speakers, dict[str, float]()
        for name, version in (("voice_match", "spoken"), ("voice_match_recorded", "recorded")):
            share = voice_match(voices[version], voices["reference"], speakers) if speakers else None
            found |= {} if share is None else {name: share}
        return found

    def _waveforms(self, rows: list[Tensor]) -> list[Tensor]:
        """Codes (T', K) -> waveforms (N)."""
        return [self.waveform_of(row).cpu() for row in rows]

    def compute(self) -> dict[str, float]:
        said, truth = self.pairs("spoken")
        return {
            **error_rates(said, truth),
            "cer_shuffled": error_rates(said, shuffled(truth))["cer"],
            "cer_codec": self.cer("codec"),
            "cer_recorded": self.cer("recorded"),
            "too_short": 100 * self.state.too_short / len(self.state.truth),
            **self.spread(),
            **self._voice_matches(),
        }
