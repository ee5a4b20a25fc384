"""The engine: text generation, transcription, OCR and speech by the modules of an export.

Shapes: B requests, T tokens, N samples.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from muomni.frontends.hearing import hearing_of
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.asr.ctc_decoders import build_decoder
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.inference.asr.transcribe import Transcriber, Transcript
from muomni.inference.batch import answer_prompts, n_best_texts
from muomni.inference.conversation import Conversation
from muomni.inference.decoding.detokenizer import detokenize
from muomni.inference.decoding.finite import register_finite_check
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.runtime import Eager, Runtime
from muomni.inference.decoding.timings import Timings
from muomni.inference.media import Media, Source, spec_from_metadata
from muomni.inference.ocr import read_images
from muomni.inference.prompt import Prompt, PromptBuilder, Request, prepare
from muomni.inference.tts.speaker import Speaker, Utterance, build_speaker, warn_of_cut
from muomni.inference.validation import require_bool, require_sequence, require_str
from muomni.models.omni import Omni
from muomni.short_repr import shown

TRANSCRIBE_OPTIONS = ("timestamps", "beams", "lm", "lm_weight")
MISSING_MODULE_HELP = {
    "thinker": "this export has no Thinker, it cannot answer: train stage=thinker or stage=omni_sft and use its export",
    "audio": "this export has no audio encoder: train stage=audio or stage=omni_sft and use its export",
    "ocr": "this export has no OCR model: train stage=ocr and use its export",
    "talker": "this export has no Talker: train stage=talker and use its export, or name it by talker=",
    "codec": "this export has no codec for its Talker: train stage=talker again",
}


class Engine:
    """Text, images and audio in; text and speech out. `timings` are those of the last call.

    Args:
        modules: the modules of an export by name; a missing one is an error once it is needed.
        metadata: of the export: stage, tokenizer fingerprint, specs of the frontends.
        tokenizer: None if no module reads text.
        where: names the export in errors.
        format: "chat", "plain", or "auto": plain for models without our roles, those of stage thinker and of micro-omni.
        vocoder: see `choose_vocoder`. `vocoder_note` says which one is used, and why.
    """

    def __init__(
        self,
        *,
        modules: Mapping[str, nn.Module],
        metadata: Mapping[str, Any],
        tokenizer: Tokenizer | None,
        where: str,
        format: str,
        device: torch.device,
        vocoder: str | Path,
    ) -> None:
        self.modules = {name: module.to(device).eval() for name, module in modules.items()}
        if "audio" in modules:
            register_finite_check(self.modules["audio"])
        self.metadata, self.tokenizer, self.where, self.device = metadata, tokenizer, where, device
        self.timings = Timings()
        if format == "auto":
            format = "plain" if metadata.get("stage") == "thinker" or "micro_omni" in metadata else "chat"
        takes_images = "vision" in modules or "ocr" in modules
        self.media = Media(
            image=spec_from_metadata(ImageSpec, metadata, "image", where=where) if takes_images else None,
            mel=spec_from_metadata(MelSpec, metadata, "mel", where=where) if "audio" in modules else None,
            hearing=hearing_of(metadata, where=where),
        )
        self.prompter = self._build_prompter(format) if "thinker" in modules else None
        self.runtime: Runtime | None = None if self.prompter is None else Eager(self.prompter.thinker)
        self.speaker, self.vocoder_note = None, ""
        if "talker" in modules:
            self.require("codec")
            self.speaker, self.vocoder_note = build_speaker(
                self.modules, metadata, vocoder=vocoder, where=where, device=device
            )

    # --- text --------------------------------------------------------------------------------------------------

    def generate(self, text: str = "", *, echo: bool = False, **options: Any) -> str:
        """The answer (or, from a plain language model, the continuation). echo=True prepends the prompt.

        options: image=, audio= (a file, a tensor, or a list), messages=, system_prompt=, truncate=, generation= (a preset or a
        `GenerationOptions`), and any field of `GenerationOptions`. Raises ValueError for unreadable media, for
        `Too many tokens: N > context`, and for unknown options.
        """
        return "".join(self.generate_stream(text, echo=echo, **options))

    def generate_stream(self, text: str = "", *, echo: bool = False, **options: Any) -> Iterator[str]:
        """`generate` in pieces, which joined are the same text."""
        require_bool("echo", echo)
        request, chosen = prepare(text, options)
        conversation = self.conversation(history=False)
        answer = conversation.say(request, chosen)
        self.timings = conversation.timings
        return itertools.chain([f"{text} "] if echo else [], answer)

    def generate_batch(self, requests: Sequence[str | Request], **options: Any) -> list[str]:
        """Answers to several requests at once, each with its own media; under greedy decoding each equals its single run.

        options: as of `generate`; those of the request apply to every request that is a string. Row i samples as seed + i does
        alone; a repeated request has another seed (`sampling.row_seeds`).
        """
        common, chosen = prepare("", options)
        prompts = self._prompts(requests, common, chosen)
        if not prompts:
            return []
        prompter, self.timings = self.require_prompter(), Timings()
        rows = answer_prompts(prompter, self.require_runtime(), prompts, options=chosen, timings=self.timings)
        return [detokenize(prompter.tokenizer, row, stop=chosen.stop) for row in rows]

    def generate_n_best(self, requests: Sequence[str | Request], **options: Any) -> list[list[tuple[str, float]]]:
        """Up to `num_beams` distinct answers to each request with their scores, best first: the sum of an answer's
        log-probabilities, divided by its length in tokens ** `length_penalty`. options: as of `generate_batch`; default: the
        preset "beam"."""
        common, chosen = prepare("", {"generation": "beam"} | options)
        prompts = self._prompts(requests, common, chosen)
        if not prompts:
            return []
        self.timings = Timings()
        return n_best_texts(self.require_prompter(), prompts, options=chosen, timings=self.timings)

    def _prompts(self, requests: Sequence[str | Request], common: Request, options: GenerationOptions) -> list[Prompt]:
        """The prompts of the requests; for a string, `common` with that text."""
        require_sequence("requests", requests, of="strings or Requests", single="generate takes a single one")
        prompter = self.require_prompter()
        whole: list[Request] = []
        for index, request in enumerate(requests):
            if not isinstance(request, Request):
                require_str(f"requests[{index}]", request)
                request = replace(common, text=request)
            whole.append(request)
        return [
            prompter.fitting(request, prompter.encode_media(request), max_new_tokens=options.max_new_tokens)
            for request in whole
        ]

    def chat(self, text: str = "", *, conversation: Conversation | None = None, **options: Any) -> str:
        """One answer; with a `conversation` (of the method of that name) its next turn."""
        request, chosen = prepare(text, options)
        if not isinstance(conversation, Conversation | None):
            raise ValueError(f"conversation={shown(conversation)}: a result of model.conversation() is needed")
        conversation = conversation or self.conversation(history=False)
        answer = "".join(conversation.say(request, chosen))
        self.timings = conversation.timings
        return answer

    def conversation(self, *, history: bool = True, system_prompt: str = "") -> Conversation:
        """A new conversation with its own cache."""
        return Conversation(
            self.require_prompter(), self.require_runtime(), history=history, system_prompt=system_prompt
        )

    # --- images ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(self, image: Source) -> str:
        """The text in an image, a file or uint8 (3, H, W), by an export of stage=ocr."""
        model = self.require("ocr")
        images = self.media.images([image])
        assert images is not None
        return read_images(model, images.to(self.device))[0]  # type: ignore[arg-type]

    # --- audio -------------------------------------------------------------------------------------------------

    @overload
    def transcribe(self, audio: Source, *, timestamps: Literal[False] = False, **options: Any) -> str: ...

    @overload
    def transcribe(self, audio: Source, *, timestamps: Literal[True], **options: Any) -> Transcript: ...

    def transcribe(self, audio: Source, *, timestamps: bool = False, **options: Any) -> str | Transcript:
        """Speech -> text by the audio encoder's CTC head: an audio file of any length, or a waveform (N,) at 16 kHz.

        options: of `build_decoder`: beams= (1, the default, is greedy), lm= (an `NGram`, its file, or "thinker": this export's
        Thinker rescores the beams) and lm_weight=. timestamps=True returns a `Transcript`: the text, and its words with their
        times. Raises ValueError for options that exclude each other.
        """
        encoder = self.require("audio")
        require_bool("timestamps", timestamps)
        if unknown := [name for name in options if name not in TRANSCRIBE_OPTIONS]:
            raise ValueError(
                f"unknown option {shown(unknown[0])} of transcribe; available: {', '.join(TRANSCRIBE_OPTIONS)}"
            )
        if options.get("lm") == "thinker":
            options |= {"lm": ThinkerScorer(self.require_prompter())}
        decoder = build_decoder(**options, characters=encoder.characters)  # type: ignore[arg-type]
        heard, spec = self.media.hear(audio), self.media.require_hearing().mel
        scorer = options.get("lm")
        max_frames = scorer.max_frames if isinstance(scorer, ThinkerScorer) else None  # it takes whole segments only
        transcriber = Transcriber(encoder, hop=spec.hop, sample_rate=spec.sample_rate, max_frames=max_frames)  # type: ignore[arg-type]
        self.timings = Timings(transcribed_seconds=len(heard.waveform) / spec.sample_rate)
        with self.timings.span("transcription"):
            transcript = transcriber(heard.waveform, heard.mel, decoder, timestamps=timestamps, spans=heard.spans)
        return transcript if timestamps else transcript.text

    def generate_speech(self, text: str, *, voice: int = 0) -> Tensor:
        """Text -> waveform (N,) at `speech_rate` Hz, peak-normalised and deterministic. Logged if the frame limit cuts it off;
        see `speak` for a flag."""
        waveform = self.speak([text], voices=[voice])[0].waveform
        warn_of_cut(self.timings)
        return waveform

    def generate_speech_stream(
        self, text: str, *, voice: int = 0, ended: Callable[[Timings], None] = warn_of_cut
    ) -> Iterator[Tensor]:
        """`generate_speech` in chunks (N,), yielded while the Talker decodes; joined they are the same waveform. `ended` is
        called with the timings at the end; default: log if the frame limit cut it off."""
        speaker = self.require_speaker()
        (spoken,), (limit,) = speaker.prepare([text], self.tokenizer)
        self.timings = Timings()
        return speaker.stream(spoken, limit=limit, voice=voice, timings=self.timings, ended=ended)

    def speak(self, texts: Sequence[str], *, voices: Sequence[int] | None = None) -> list[Utterance]:
        """Several texts at once, each equal to its single run, with codes and a flag for those cut off by the frame limit.

        Texts are normalised to the characters that the Talker was trained on (`alphabet` in the metadata): numbers and signs
        become words. Raises ValueError for a text of which nothing remains, and for an unknown voice.
        """
        speaker = self.require_speaker()
        require_sequence("texts", texts, of="strings", single="generate_speech takes a single one")
        texts = list(texts)
        voices = [0] * len(texts) if voices is None else voices
        require_sequence("voices", voices, of="numbers", single="one for each text")
        voices = list(voices)
        if len(voices) != len(texts):
            raise ValueError(f"{len(texts)} texts and {len(voices)} voices: a voice for each is needed")
        if not texts:
            return []
        spoken, limits = speaker.prepare(texts, self.tokenizer)
        self.timings = Timings()
        return speaker.speak(spoken, limits=limits, voices=voices, timings=self.timings)

    @property
    def speech_rate(self) -> int:
        """Sample rate of spoken waveforms, Hz."""
        return self.require_speaker().vocoder.spec.sample_rate

    # --- modules -----------------------------------------------------------------------------------------------

    def require(self, name: str) -> nn.Module:
        """A module of the export. Raises ValueError saying which stage to train if it is missing."""
        if name not in self.modules:
            raise ValueError(f"{self.where}: {MISSING_MODULE_HELP[name]}")
        return self.modules[name]

    def require_prompter(self) -> PromptBuilder:
        """The prompt builder. Raises ValueError without a Thinker."""
        self.require("thinker")
        assert self.prompter is not None
        return self.prompter

    def require_runtime(self) -> Runtime:
        """The Thinker's runtime. Raises ValueError without a Thinker."""
        self.require("thinker")
        assert self.runtime is not None
        return self.runtime

    def require_speaker(self) -> Speaker:
        """The speaker. Raises ValueError without a Talker."""
        self.require("talker")
        assert self.speaker is not None
        return self.speaker

    def _build_prompter(self, format: str) -> PromptBuilder:
        if self.tokenizer is None:
            raise ValueError(f"{self.where}: this export has no tokenizer.model; export it again")
        pieces, known = self.tokenizer.vocab_size, self.require("thinker").vocab_size
        if pieces != known:
            raise ValueError(
                f"{self.where}: the tokenizer has {pieces} pieces, the Thinker {known}: put its own tokenizer.model back"
            )
        names = ("thinker", "vision", "image_projector", "audio", "audio_projector")
        model = Omni(**{name: self.modules.get(name) for name in names})  # type: ignore[arg-type]
        return PromptBuilder(model=model, tokenizer=self.tokenizer, media=self.media, format=format)
