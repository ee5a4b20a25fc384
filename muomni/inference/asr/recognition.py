"""Transcription of what users give: options -> a transcriber and a decoder, sources -> transcripts with their timings.

Shapes: N samples.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from muomni.inference.asr.ctc_decoders import CtcDecoder, build_decoder
from muomni.inference.asr.live import LiveOptions, LiveTranscriber, PartialTranscript, transcribe_pieces
from muomni.inference.asr.live_reader import STEP, WINDOW, reads_in_chunks
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.inference.asr.transcribe import Transcriber
from muomni.inference.asr.transcript import Transcript, TranscriptSegment
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import InvalidOption, MissingModule
from muomni.inference.media import Media
from muomni.inference.prompt import PromptBuilder
from muomni.inference.sources import Source
from muomni.models.encoders import AudioEncoder
from muomni.short_repr import shown

log = logging.getLogger(__name__)

TRANSCRIBE_OPTIONS = ("timestamps", "beams", "lm", "lm_weight")


def require_head(encoder: AudioEncoder, *, where: str) -> None:
    """Raise MissingModule for an encoder that writes nothing."""
    if not encoder.num_symbols:
        raise MissingModule(
            f"{where}: its audio encoder has no CTC head, it transcribes nothing: train stage=audio with it "
            "(audio_encoder=hf), or ask the model to write down what is said",
            param="audio",
        )


class Recognition:
    """The recognizer of an export. prompter: of its Thinker, for lm="thinker". See `Engine` for options and errors."""

    def __init__(self, encoder: AudioEncoder, media: Media, *, prompter: Callable[[], PromptBuilder]) -> None:
        self.encoder, self.media, self.prompter = encoder, media, prompter
        self.spec = media.require_hearing().mel

    def transcript(self, audio: Source, *, words: bool, options: dict[str, Any]) -> Transcript:
        """See `Engine.transcript`."""
        transcriber, decoder = self._build(options)
        heard = self.media.hear(audio)
        timings = Timings(transcribed_seconds=len(heard.waveform) / self.spec.sample_rate)
        with timings.span("transcription"):
            transcript = transcriber(heard.waveform, heard.mel, decoder, timestamps=words, spans=heard.spans)
        return replace(transcript, timings=timings)

    def transcripts(self, audios: Sequence[Source], *, words: bool, options: dict[str, Any]) -> list[Transcript]:
        """See `Engine.transcripts`."""
        transcriber, decoder = self._build(options)
        heard = [self.media.hear(audio) for audio in audios]
        timings = Timings(transcribed_seconds=sum(len(each.waveform) for each in heard) / self.spec.sample_rate)
        with timings.span("transcription"):
            rows = transcriber.batch(heard, decoder, timestamps=words)
        return [replace(row, timings=timings) for row in rows]

    def stream(self, audio: Source, *, options: dict[str, Any]) -> Iterator[TranscriptSegment]:
        """See `Engine.transcribe_stream`."""
        transcriber, decoder = self._build(options)
        heard = self.media.hear(audio)
        return transcriber.stream(heard.waveform, heard.mel, decoder, spans=heard.spans)

    def live(self, pieces: Iterable[Any], *, options: dict[str, Any]) -> Iterator[PartialTranscript]:
        """See `Engine.transcribe_stream`."""
        known = [field.name for field in fields(LiveOptions)]
        if unknown := [name for name in options if name not in known]:
            raise InvalidOption(
                f"unknown option {shown(unknown[0])} of transcribe_stream with pieces of audio, which is greedy; available: "
                f"{', '.join(known)}",
                param=unknown[0],
            )
        chosen = LiveOptions(**options)
        if not reads_in_chunks(self.encoder):
            log.warning(
                "this encoder was trained without chunks: its last %g s are read again every %g s; "
                "audio_encoder=streaming trains one that reads each sound once, and is faster to settle",
                WINDOW,
                STEP,
            )
        return transcribe_pieces(LiveTranscriber(self.encoder, self.media.require_hearing(), chosen), pieces, chosen)

    def _build(self, options: dict[str, Any]) -> tuple[Transcriber, CtcDecoder]:
        if unknown := [name for name in options if name not in TRANSCRIBE_OPTIONS]:
            raise InvalidOption(
                f"unknown option {shown(unknown[0])} of transcribe; available: {', '.join(TRANSCRIBE_OPTIONS)}",
                param=unknown[0],
            )
        if options.get("lm") == "thinker":
            options = options | {"lm": ThinkerScorer(self.prompter())}
        decoder = build_decoder(**options, characters=self.encoder.characters)
        scorer = options.get("lm")
        max_frames = scorer.max_frames if isinstance(scorer, ThinkerScorer) else None  # it takes whole segments only
        hop, rate = self.spec.hop, self.spec.sample_rate
        return Transcriber(self.encoder, hop=hop, sample_rate=rate, max_frames=max_frames), decoder
