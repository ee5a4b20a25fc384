"""The engine: an export folder, ready to answer, listen and speak.

Shapes: B requests, T tokens, N samples.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muomni.checkpoints import Export, is_export, load_export
from muomni.frontends.griffin_lim import GriffinLim
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.spoken import LETTERS, spoken_form
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.conversation import Conversation
from muomni.inference.generate import generate, left_pad, prefill
from muomni.inference.media import Media, Source, spec_from_facts
from muomni.inference.prompt import Prompter, Request, prepare
from muomni.inference.read import read_pictures
from muomni.inference.recognise import greedy_texts
from muomni.inference.sampling import GenerationOptions, Sampler
from muomni.inference.speech import Speaker, Utterance, frame_limit
from muomni.inference.stats import Timings
from muomni.models.omni import Omni

GRIFFIN_LIM_ITERATIONS = 32
LACKS = {
    "thinker": "this export has no Thinker, it cannot answer: train stage=thinker or stage=omni_sft and use its export",
    "audio": "this export has no audio encoder: train stage=audio or stage=omni_sft and use its export",
    "ocr": "this export reads no writing: train stage=ocr and use its export",
    "talker": "this export has no Talker: train stage=talker and use its export, or name it by talker=",
    "codec": "this export has no codec, its Talker cannot be heard: train stage=talker again",
}


class Engine:
    """Text, images and audio in; text and speech out. `timings` tells what the last call took.

    Args:
        parts: by name, as an export holds them; any may be missing until it is needed.
        facts: of the export: stage, tokenizer fingerprint, specs of the frontends.
        tokenizer: None where no part reads text.
        where: names the export in errors.
        format: "chat", "plain", or "auto": plain for what no one taught our roles, stage thinker and micro-omni's.
    """

    def __init__(
        self,
        *,
        parts: Mapping[str, nn.Module],
        facts: Mapping[str, Any],
        tokenizer: Tokenizer | None,
        where: str,
        format: str,
        device: torch.device,
    ) -> None:
        self.parts = {name: part.to(device).eval() for name, part in parts.items()}
        self.facts, self.tokenizer, self.where, self.device = facts, tokenizer, where, device
        self.timings = Timings()
        if format == "auto":
            format = "plain" if facts.get("stage") == "thinker" or "micro_omni" in facts else "chat"
        sees, hears = "vision" in parts or "ocr" in parts, "audio" in parts
        self.media = Media(
            image=spec_from_facts(ImageSpec, facts, "image", where=where) if sees else None,
            mel=spec_from_facts(MelSpec, facts, "mel", where=where) if hears else None,
        )
        self.prompter = self._build_prompter(format) if "thinker" in parts else None
        self.speaker = self._build_speaker() if "talker" in parts else None

    # --- text --------------------------------------------------------------------------------------------------

    def generate(self, text: str = "", *, echo: bool = False, **options: Any) -> str:
        """The answer (or, from a plain language model, the continuation). echo=True puts the prompt before it.

        options: image=, audio= (a file, a tensor, or a list), messages=, system_prompt=, truncate=, generation= (a
        preset or a `GenerationOptions`), and any field of `GenerationOptions`. Raises ValueError for what cannot be
        read, for `Too many tokens: N > context`, and for unknown options.
        """
        return "".join(self.generate_stream(text, echo=echo, **options))

    def generate_stream(self, text: str = "", *, echo: bool = False, **options: Any) -> Iterator[str]:
        """`generate`, piece by piece; the pieces joined are the same text."""
        prompter = self.need_prompter()
        request, chosen = prepare(prompter, text, options)
        conversation = Conversation(prompter, history=False, system_prompt="")
        self.timings = conversation.timings
        return self._stream(conversation, request, chosen, f"{request.text} " if echo else "")

    def _stream(
        self, conversation: Conversation, request: Request, options: GenerationOptions, opening: str
    ) -> Iterator[str]:
        answer = conversation.say(request, options)
        if opening:
            yield opening
        for piece in answer:
            self.timings = conversation.timings
            yield piece

    @torch.inference_mode()
    def generate_batch(self, requests: Sequence[str | Request], **options: Any) -> list[str]:
        """Answers to several requests at once; under greedy each equals its single run."""
        if not requests:
            return []
        prompter = self.need_prompter()
        whole = [request if isinstance(request, Request) else Request(text=request) for request in requests]
        _, chosen = prepare(prompter, "-", options)
        prompts = [prompter.prompt(request) for request in whole]
        longest = max(len(prompt) for prompt in prompts)
        prompter.check_budget(longest, chosen.max_new_tokens)
        ids, padding = left_pad([prompt.ids for prompt in prompts])
        ids, padding = ids.to(self.device), padding.to(self.device)
        thinker = prompter.thinker
        new = chosen.max_new_tokens or prompter.context - longest
        cache = thinker.new_cache(len(prompts), longest + new)
        sampler, self.timings = Sampler(chosen, device=self.device), Timings()
        with self.timings.span("prefill"):
            embeddings = prompter.embed(ids, [p.features for p in prompts])
            logits = prefill(thinker, ids, cache, embeddings=embeddings, padding=padding)
        self.timings.prompt_tokens = sum(len(prompt) for prompt in prompts)
        sampler.note(ids, thinker.vocab_size)
        rows = generate(
            thinker, logits, cache, sampler=sampler, max_new_tokens=new, padding=padding, timings=self.timings
        )
        return [cut_at_stop(prompter.tokenizer.decode(row), chosen.stop) for row in rows]

    def chat(self, text: str = "", *, conversation: Conversation | None = None, **options: Any) -> str:
        """One answer. With a `conversation` (see `conversation`) it continues that one; else it stands alone."""
        prompter = self.need_prompter()
        request, chosen = prepare(prompter, text, options)
        conversation = conversation or Conversation(prompter, history=False, system_prompt="")
        answer = "".join(conversation.say(request, chosen))
        self.timings = conversation.timings
        return answer

    def conversation(self, *, history: bool = True, system_prompt: str = "") -> Conversation:
        """A new conversation with its own cache."""
        return Conversation(self.need_prompter(), history=history, system_prompt=system_prompt)

    # --- writing -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(self, image: Source) -> str:
        """The writing in a picture, by an export of stage=ocr: a file, or pixels (3, H, W) uint8."""
        model = self.need("ocr")
        images = self.media.images([image])
        assert images is not None
        return read_pictures(model, images.to(self.device))[0]  # type: ignore[arg-type]

    # --- sound -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def transcribe(self, audio: Source) -> str:
        """Speech -> text by the audio encoder's CTC head, greedily: a sound file, or a waveform (N,) at 16 kHz."""
        encoder = self.need("audio")
        mel = self.media.log_mel(audio)[None].to(self.device)
        return greedy_texts(encoder(mel))[0]

    def generate_speech(self, text: str, *, voice: int = 0) -> Tensor:
        """Text -> waveform (N,) at `speech_rate` Hz, peak-normalised. The same text gives the same waveform."""
        return self.speak([text], voices=[voice])[0].waveform

    def speak(self, texts: Sequence[str], *, voices: Sequence[int] | None = None) -> list[Utterance]:
        """Several texts at once, with their codes and whether one was cut off by its bound.

        A text is first brought into the characters that the Talker was taught (the fact `alphabet`): numbers and signs
        become words. Raises ValueError for a text of which nothing remains, and for an unknown voice.
        """
        speaker = self.need_speaker()
        alphabet = self.facts.get("alphabet", LETTERS)
        tokens = [0 if self.tokenizer is None else len(self.tokenizer.encode(text)) for text in texts]
        self.timings = Timings()
        return speaker.speak(
            [spoken_form(text, alphabet) for text in texts],
            limits=[frame_limit(count) for count in tokens],
            voices=list(voices or [0] * len(texts)),
            timings=self.timings,
        )

    @property
    def speech_rate(self) -> int:
        """Samples a second of spoken waveforms."""
        return self.need_speaker().vocoder.spec.sample_rate

    # --- parts -------------------------------------------------------------------------------------------------

    def need(self, name: str) -> nn.Module:
        """A part. Raises ValueError saying which stage to train where the export lacks it."""
        if name not in self.parts:
            raise ValueError(f"{self.where}: {LACKS[name]}")
        return self.parts[name]

    def need_prompter(self) -> Prompter:
        """The way from requests to embeddings; needs a Thinker."""
        self.need("thinker")
        assert self.prompter is not None
        return self.prompter

    def need_speaker(self) -> Speaker:
        """The way from text to sound; needs a Talker and its codec."""
        self.need("talker")
        assert self.speaker is not None
        return self.speaker

    def _build_prompter(self, format: str) -> Prompter:
        if self.tokenizer is None:
            raise ValueError(f"{self.where}: this export has no tokenizer.model; export it again")
        names = ("thinker", "vision", "image_projector", "audio", "audio_projector")
        model = Omni(**{name: self.parts.get(name) for name in names})  # type: ignore[arg-type]
        return Prompter(model=model, tokenizer=self.tokenizer, media=self.media, format=format)

    def _build_speaker(self) -> Speaker:
        name = "codec_mel" if "codec_mel" in self.facts else "mel"
        spec = spec_from_facts(MelSpec, self.facts, name, where=self.where)
        vocoder = GriffinLim(spec, iterations=GRIFFIN_LIM_ITERATIONS)
        return Speaker(self.need("talker"), self.need("codec"), vocoder)  # type: ignore[arg-type]


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    return text[: min([place for word in stop if (place := text.find(word)) >= 0], default=len(text))]


def load_model(
    path: str | Path, *, device: str = "auto", format: str = "auto", talker: str | Path | None = None
) -> Engine:
    """An engine from an export folder (or the model.safetensors in it).

    device: auto takes a GPU where there is one. talker: another export whose Talker and codec speak the answers.
    Raises FileNotFoundError or ValueError naming what is wrong with the path or the export.
    """
    folder = Path(path)
    if folder.name == "model.safetensors" and folder.is_file():
        folder = folder.parent
    if folder.is_file():
        imports = "of a checkpoint of micro-omni:  python -m muomni.micro_omni import"
        raise ValueError(f"{folder}: not an export folder; a training run writes checkpoints/<stage>/ ({imports})")
    if not is_export(folder):
        raise FileNotFoundError(f"{folder}: no export here (no model.yaml and model.safetensors)")
    export = load_export(folder)
    if talker is not None:
        export = with_talker(export, load_export(talker))
    tokenizer = None
    if (folder / "tokenizer.model").is_file():
        tokenizer = Tokenizer.load(folder / "tokenizer.model")
        check_tokenizer(tokenizer, export)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Engine(
        parts=export.parts,
        facts=export.facts,
        tokenizer=tokenizer,
        where=str(folder),
        format=format,
        device=torch.device(device),
    )


def check_tokenizer(tokenizer: Tokenizer, export: Export) -> None:
    """Raise ValueError where the tokenizer in the folder is not the one the parts were trained with."""
    trained_with = export.facts.get("tokenizer")
    if trained_with is not None and trained_with != tokenizer.fingerprint():
        raise ValueError(
            f"{export.folder}/tokenizer.model: fingerprint {tokenizer.fingerprint()[:12]}, but the model was trained "
            f"with {str(trained_with)[:12]}: put the right tokenizer back, or train again"
        )


def with_talker(export: Export, speech: Export) -> Export:
    """The export, with Talker and codec of another one."""
    for name in ("talker", "codec"):
        if name not in speech.parts:
            raise ValueError(f"{speech.folder}: {LACKS[name]}")
    spoken = {name: speech.parts[name] for name in ("talker", "codec")}
    facts = dict(export.facts) | {"codec_mel": speech.facts.get("codec_mel", speech.facts.get("mel"))}
    facts["alphabet"] = speech.facts.get("alphabet", LETTERS)
    return Export(parts=export.parts | spoken, facts=facts, folder=export.folder)
