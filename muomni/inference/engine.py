"""The engine: text generation, transcription, OCR and speech by the modules of an export.

It has no state but the modules: caches, samplers and timings belong to a call, so threads may share an engine.

Shapes: B requests, T tokens, N samples.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer, AnswerStream, NBest
from muomni.inference.asr.live import PartialTranscript
from muomni.inference.asr.recognition import Recognition, require_head
from muomni.inference.asr.transcript import Transcript, TranscriptSegment
from muomni.inference.batch import answer_prompts, n_best_texts
from muomni.inference.conversation import Conversation
from muomni.inference.conversation_file import load_conversation, save_conversation
from muomni.inference.decoding.finite import register_finite_check
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.runtime import Eager, Runtime
from muomni.inference.errors import MISSING_MODULE_HELP, InvalidOption, MissingModule, MuomniError, raised_as
from muomni.inference.media import media_from_metadata
from muomni.inference.ocr import read_images
from muomni.inference.prompt import Prompt, PromptBuilder, Request, build_prompter, prepare
from muomni.inference.sources import Source, is_pieces
from muomni.inference.tts.build_speaker import build_speaker
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speaking import Speaking
from muomni.inference.validation import require_bool, require_sequence, require_str
from muomni.models.encoders import AudioEncoder
from muomni.short_repr import shown


class Engine(Speaking):
    """Text, images and audio in; text and speech out. Methods may be called from several threads at once.

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
        if format == "auto":
            format = "plain" if metadata.get("stage") == "thinker" or "micro_omni" in metadata else "chat"
        self.media = media_from_metadata(metadata, modules=modules, where=where)
        self.prompter: PromptBuilder | None = None
        if "thinker" in modules:
            self.prompter = build_prompter(self.modules, tokenizer, media=self.media, format=format, where=where)
        self.runtime: Runtime | None = None if self.prompter is None else Eager(self.prompter.thinker)
        self.speaker: Speaker | None = None
        self.vocoder_note = ""
        if "talker" in modules:
            self.require("codec")
            self.speaker, self.vocoder_note = build_speaker(
                self.modules, metadata, tokenizer=tokenizer, vocoder=vocoder, where=where, device=device
            )

    # --- text --------------------------------------------------------------------------------------------------

    def answer(self, text: str = "", *, conversation: Conversation | None = None, **options: Any) -> Answer:
        """The answer with its finish reason, token counts, timings and, with logprobs=N, log-probabilities.

        options: image=, audio= (a file, bytes, a file object, an array, a tensor, or a list of them), messages=, system_prompt=,
        truncate=, generation= (a preset or `GenerationOptions`), and any field of `GenerationOptions`. conversation: a result of
        the method of that name, whose next turn this is. Raises MuomniError for what is wrong with any of them.
        """
        return self.answer_stream(text, conversation=conversation, **options).result()

    def answer_stream(
        self, text: str = "", *, conversation: Conversation | None = None, **options: Any
    ) -> AnswerStream:
        """`answer` in pieces, while it is generated; `.answer` after the last one."""
        request, chosen = prepare(text, options)
        if not isinstance(conversation, Conversation | None):
            raise InvalidOption(
                f"conversation={shown(conversation)}: a result of model.conversation() is needed", param="conversation"
            )
        conversation = conversation or self.conversation(history=False)
        return conversation.say(request, chosen)

    def answer_batch(self, requests: Sequence[str | Request], **options: Any) -> list[Answer]:
        """Answers to several requests at once, each with its own media; under greedy decoding each equals its single run.

        options: as of `answer`; those of the request apply to every request that is a string. Row i samples as seed + i does
        alone; a repeated request has another seed (`sampling.row_seeds`). The timings are those of the batch.
        """
        common, chosen = prepare("", options)
        prompts = self._prompts(requests, common, chosen)
        if not prompts:
            return []
        return answer_prompts(self.require_prompter(), self.require_runtime(), prompts, options=chosen)

    def generate(self, text: str = "", *, echo: bool = False, **options: Any) -> str:
        """The text of the answer (or, from a plain language model, the continuation). echo=True prepends the prompt. options: as
        of `answer`."""
        return "".join(self.generate_stream(text, echo=echo, **options))

    def generate_stream(self, text: str = "", *, echo: bool = False, **options: Any) -> Iterator[str]:
        """`generate` in pieces, which joined are the same text."""
        require_bool("echo", echo)
        answer = self.answer_stream(text, **options)
        return itertools.chain([f"{text} "] if echo else [], answer.texts())

    def generate_batch(self, requests: Sequence[str | Request], **options: Any) -> list[str]:
        """The texts of `answer_batch`."""
        return [answer.text for answer in self.answer_batch(requests, **options)]

    def generate_n_best(self, requests: Sequence[str | Request], **options: Any) -> list[list[tuple[str, float]]]:
        """The rows of `n_best`."""
        return self.n_best(requests, **options).rows

    def n_best(self, requests: Sequence[str | Request], **options: Any) -> NBest:
        """Several answers to each request with their scores, by beam search. options: as of `answer_batch`; default: the preset
        "beam"."""
        common, chosen = prepare("", {"generation": "beam"} | options)
        prompts = self._prompts(requests, common, chosen)
        return n_best_texts(self.require_prompter(), prompts, options=chosen)

    def _prompts(self, requests: Sequence[str | Request], common: Request, options: GenerationOptions) -> list[Prompt]:
        """The prompts of the requests; for a string, `common` with that text."""
        require_sequence("requests", requests, of="strings or Requests", single="generate takes a single one")
        prompter = self.require_prompter()
        options.check_vocabulary(prompter.thinker.vocab_size)
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
        """The text of `answer`."""
        return self.answer(text, conversation=conversation, **options).text

    def conversation(self, *, history: bool = True, system_prompt: str = "") -> Conversation:
        """A new conversation with its own cache."""
        return Conversation(
            self.require_prompter(), self.require_runtime(), history=history, system_prompt=system_prompt
        )

    def save_conversation(self, path: str | Path, conversation: Conversation, *, embed: bool = False) -> None:
        """Write the turns of a conversation to a JSON file; embed: with images and audios, not the paths of their files."""
        save_conversation(path, conversation, embed=embed)

    def load_conversation(self, path: str | Path) -> Conversation:
        """A conversation from such a file, which continues as the saved one would. Raises FileNotFoundError and MuomniError."""
        return load_conversation(path, start=lambda prompt: self.conversation(system_prompt=prompt))

    # --- images ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(self, image: Source) -> str:
        """The text in an image, as of `answer`, by an export of stage=ocr."""
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
        """The text of `transcript`; with timestamps=True the `Transcript`, which has the words with their times."""
        require_bool("timestamps", timestamps)
        transcript = self.transcript(audio, words=timestamps, **options)
        return transcript if timestamps else transcript.text

    @raised_as(MuomniError, param=None)
    def transcript(self, audio: Source, *, words: bool = True, **options: Any) -> Transcript:
        """Speech -> text by the audio encoder's CTC head: audio of any length, a file or a waveform (N,) at 16 kHz.

        options: of `build_decoder`: beams= (1, the default, is greedy), lm= (an `NGram`, its file, or "thinker": this export's
        Thinker rescores the beams) and lm_weight=. words: also align the words. Raises MuomniError for options that exclude each
        other.
        """
        return self._recognition().transcript(audio, words=words, options=options)

    @raised_as(MuomniError, param=None)
    def transcripts(self, audios: Sequence[Source], *, words: bool = True, **options: Any) -> list[Transcript]:
        """Several recordings at once, each as its single run of `transcript`. Their timings are those of the batch."""
        require_sequence("audios", audios, of="files or waveforms", single="transcript takes a single one")
        return self._recognition().transcripts(audios, words=words, options=options)

    @overload
    def transcribe_stream(self, audio: Source, **options: Any) -> Iterator[TranscriptSegment]: ...

    @overload
    def transcribe_stream(
        self, audio: Iterable[Tensor | np.ndarray], **options: Any
    ) -> Iterator[PartialTranscript]: ...

    @raised_as(MuomniError, param=None)
    def transcribe_stream(
        self, audio: Source | Iterable[Tensor | np.ndarray], **options: Any
    ) -> Iterator[TranscriptSegment] | Iterator[PartialTranscript]:
        """Of a recording: the segments of `transcript` with their words, each as soon as the pause after it has been encoded;
        options: as there. Of an iterator of waveform pieces (N,), while they come: `PartialTranscript`, turn by turn; options:
        those of `LiveOptions` (docs/speech.md).
        """
        recognition = self._recognition()
        if is_pieces(audio):
            return recognition.live(cast(Iterable[Any], audio), options=options)
        return recognition.stream(cast(Source, audio), options=options)

    def _recognition(self) -> Recognition:
        encoder = cast(AudioEncoder, self.require("audio"))
        require_head(encoder, where=self.where)
        return Recognition(encoder, self.media, prompter=self.require_prompter)

    # --- modules -----------------------------------------------------------------------------------------------

    def require(self, name: str) -> nn.Module:
        """A module of the export. Raises MissingModule saying which stage to train if it is missing."""
        if name not in self.modules:
            raise MissingModule(f"{self.where}: {MISSING_MODULE_HELP[name]}", param=name)
        return self.modules[name]

    def require_prompter(self) -> PromptBuilder:
        """The prompt builder. Raises MissingModule without a Thinker."""
        self.require("thinker")
        assert self.prompter is not None
        return self.prompter

    def require_runtime(self) -> Runtime:
        """The Thinker's runtime. Raises MissingModule without a Thinker."""
        self.require("thinker")
        assert self.runtime is not None
        return self.runtime

    def require_speaker(self) -> Speaker:
        """The speaker. Raises MissingModule without a Talker."""
        self.require("talker")
        assert self.speaker is not None
        return self.speaker
