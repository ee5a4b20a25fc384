"""A request -> token ids and embeddings for the Thinker, within its context.

Shapes: B requests, T tokens, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from muomni.frontends.chat import encode_prompt, media_of
from muomni.frontends.heard_words import WordReader
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.audio_excerpt import AudioLimit
from muomni.inference.decoding.options import PRESETS, GenerationOptions, preset, reject_unused_options
from muomni.inference.encoder_cache import EncoderCache
from muomni.inference.errors import ContextLength, InvalidOption, MissingModule, MuomniError, raised_as
from muomni.inference.media import Media
from muomni.inference.sources import Source, in_memory
from muomni.inference.validation import require_bool, require_one_of, require_sequence, require_str
from muomni.models.omni import NO_ENCODER, MediaFeatures, Omni, merge_features, split_features
from muomni.models.thinker import Thinker
from muomni.short_repr import shown
from muomni.special_tokens import AUDIO, IMAGE

FORMATS = ("chat", "plain")
ABOUT_IMAGE = "describe the picture"
ABOUT_AUDIO = "write down what you hear"


@dataclass(slots=True, kw_only=True)
class Request:
    """A user's turn: text, images, audio; or `messages` in the chat format instead of all of them.

    truncate: cut what does not fit, the beginning of the text and the end of an audio, instead of raising. format: "chat", or
    "plain" for a text that is continued as it stands; None: the engine's.
    """

    text: str = ""
    images: list[Source] = field(default_factory=list)
    audios: list[Source] = field(default_factory=list)
    system_prompt: str = ""
    messages: Sequence[Any] = ()
    truncate: bool = False
    format: str | None = None

    def __post_init__(self) -> None:
        require_str("text", self.text)
        require_str("system_prompt", self.system_prompt)
        require_bool("truncate", self.truncate)
        if self.format is not None:
            require_one_of("format", self.format, FORMATS)
        require_sequence("images", self.images, of="images", single="one of them: [image]")
        require_sequence("audios", self.audios, of="audios", single="one of them: [audio]")
        require_sequence("messages", self.messages, of='{"role", "content"}', single="a single question is the text")
        # An iterator or an open file would be empty at the second use.
        self.images = [in_memory(image, what="image") for image in self.images]
        self.audios = [in_memory(audio, what="audio") for audio in self.audios]
        self.messages = list(self.messages)
        others = {"text": self.text, "image": self.images, "audio": self.audios, "system_prompt": self.system_prompt}
        if extra := [f"{name}=" for name, value in others.items() if value and self.messages]:
            raise InvalidOption(
                f"{', '.join(extra)} together with messages=, which hold the whole conversation: put it into them",
                param="messages",
            )

    @property
    def question(self) -> str:
        """The text, or the default question for media without one; none for an image with audio, which holds the question."""
        if self.text.strip() or bool(self.images) == bool(self.audios):
            return self.text
        return ABOUT_IMAGE if self.images else ABOUT_AUDIO

    def as_messages(self) -> list[Any]:
        """In the chat format. Raises InvalidOption for an empty request."""
        if self.messages:
            return list(self.messages)
        text = self.question
        if not text.strip() and not self.images and not self.audios:
            raise InvalidOption("an empty request: give text, an image or audio", param="text")
        content: list[Any] = [{"type": "image", "image": image} for image in self.images]
        content += [{"type": "audio", "audio": audio} for audio in self.audios]
        content += [{"type": "text", "text": text}] if text.strip() else []
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, {"role": "user", "content": content}]


@dataclass(slots=True)
class Prompt:
    """A tokenized request: ids (T) with media slots, and the features that fill them."""

    ids: Tensor
    features: MediaFeatures

    def __len__(self) -> int:
        return len(self.ids)


class PromptBuilder:
    """Requests -> prompts -> embeddings.

    Args:
        format: "chat" (instruction-tuned exports) or "plain" (language models: the text is continued, media tokens before it).
    """

    def __init__(self, *, model: Omni, tokenizer: Tokenizer, media: Media, format: str) -> None:
        if not isinstance(format, str) or format not in FORMATS:
            raise InvalidOption(f"unknown format {shown(format)}; available: {', '.join(FORMATS)}", param="format")
        self.model, self.tokenizer, self.media, self.format = model, tokenizer, media, format
        self.thinker = cast(Thinker, model.thinker)
        self.device = self.thinker.embedding.weight.device

    @property
    def context(self) -> int:
        """Maximum tokens of prompt and answer."""
        return self.thinker.max_length

    @property
    def max_audio_tokens(self) -> int:
        """Per audio: a quarter of the context."""
        return self.context // 4

    @torch.inference_mode()
    def encode_media(self, request: Request, *, cache: EncoderCache | None = None) -> MediaFeatures:
        """Run the encoders on a request's images and audio, each on its own: its features do not depend on the others.
        cache: keeps them for later requests. Errors name the file."""
        format = request.format or self.format
        if format == "plain" and request.messages:
            raise InvalidOption("a plain prompt has no roles: use format=chat for conversations", param="messages")
        if format == "plain" and request.system_prompt:
            raise InvalidOption(
                "a plain prompt has no roles: leave out system_prompt=, or use format=chat", param="system_prompt"
            )
        images, audios = request.images, request.audios
        if format == "chat":
            with raised_as(InvalidOption, param="messages"):
                images, audios = media_of(request.as_messages())
        pixels = self.media.images(images)
        rows = [] if pixels is None else [self._encode_image(image, cache) for image in pixels]
        limit = self.audio_limit(truncate=request.truncate)
        rows += [self._encode_audio(audio, limit, cache) for audio in audios]
        return merge_features(rows)

    def _encode_image(self, pixels: Tensor, cache: EncoderCache | None) -> MediaFeatures:
        """pixels (3, S, S), preprocessed."""

        def encode() -> Tensor:
            features: MediaFeatures = self.model.encode(images=pixels[None].to(self.device))
            assert features.images is not None
            return features.images

        return MediaFeatures(images=encode() if cache is None else cache.features(pixels, encode, options="image"))

    def _encode_audio(self, source: Source, limit: AudioLimit | None, cache: EncoderCache | None) -> MediaFeatures:
        if limit is None:
            self.media.require_hearing()
            raise MissingModule(NO_ENCODER.format(media="audio", encoder="audio"), param="audio")
        waveform = self.media.limited_waveform(source, limit=limit)

        def encode() -> Tensor:
            mel = self.media.excerpt(waveform, limit=limit, source=source)[None].to(self.device)
            lengths = torch.tensor([mel.shape[1]], device=self.device)
            features: MediaFeatures = self.model.encode(mel=mel, mel_lengths=lengths)
            assert features.audios is not None
            return features.audios

        options = f"audio truncate={limit.truncate}"
        audios = encode() if cache is None else cache.features(waveform, encode, options=options)
        count = audios.shape[1]
        lengths = torch.tensor([count], device=self.device)
        return MediaFeatures(audios=audios, audio_lengths=lengths, audio_counts=[count])

    def audio_limit(self, *, truncate: bool) -> AudioLimit | None:
        """The limit per audio; None for a model without an audio encoder, which raises by itself."""
        audio, projector = self.model.audio, self.model.audio_projector
        if audio is None or projector is None:
            return None
        per_token = audio.downsample * projector.stack
        return AudioLimit(tokens=self.max_audio_tokens, frames_per_token=per_token, truncate=truncate)

    def prompt(self, request: Request, features: MediaFeatures, *, first: bool = True) -> Prompt:
        """Tokenize a request with its media; `first=False` continues a conversation."""
        counts = features.audio_counts or []
        if features.audio_counts is None and features.audio_lengths is not None:
            counts = features.audio_lengths.tolist()
        image_tokens = self.model.image_tokens
        if (
            request.format or self.format
        ) == "plain":  # [image slots][audio slots] BOS text, as micro-omni's models were trained
            # pieces begin with their space: after a trailing space the model would continue with pieces it never saw there
            slots = [IMAGE] * image_tokens * len(request.images) + [AUDIO] * sum(counts)
            return Prompt(torch.tensor(slots + self.tokenizer.encode(request.question.rstrip(" "), bos=True)), features)
        with raised_as(InvalidOption, param="messages" if request.messages else "text"):
            sequence = encode_prompt(
                self.tokenizer, request.as_messages(), image_tokens=image_tokens, audio_tokens=counts, first=first
            )
        return Prompt(sequence.ids, features)

    def fitting(self, request: Request, features: MediaFeatures, *, max_new_tokens: int | None) -> Prompt:
        """The first prompt of a context: prompt, new tokens and one more must fit.

        With `truncate` the text is cut at its beginning until it fits. Raises ContextLength if it does not fit.
        """
        new = max_new_tokens or 1
        prompt = self.prompt(request, features)
        pieces = self.tokenizer.encode(request.text) if request.truncate and not request.messages else []
        dropped = 0
        while (total := len(prompt) + new + 1) > self.context and dropped < len(pieces):
            dropped += total - self.context  # repeated, since a cut word may take one more piece
            shorter = replace(request, text=self.tokenizer.decode(pieces[dropped:]))
            if not shorter.text.strip():
                break
            prompt = self.prompt(shorter, features)
        if total > self.context:
            raise ContextLength(
                f"Too many tokens: {total} > {self.context} ({len(prompt)} of the prompt, {new} new ones and 1): "
                "shorten the prompt, lower max_new_tokens, or allow truncate=true",
                param="messages" if request.messages else "text",
            )
        return prompt

    @torch.inference_mode()
    def embed(self, ids: Tensor, features: Sequence[MediaFeatures]) -> Tensor:
        """ids (B, T) and each row's features -> embeddings (B, T, D). Media are projected one by one, as they are encoded."""
        projected = {id(row): [self.model.project(item) for item in split_features(row)] for row in features}
        items = [item for row in features for item in projected[id(row)]]
        images = [tokens for tokens, _ in items if tokens is not None]
        audios = [tokens for _, tokens in items if tokens is not None]
        return self.model.fill(
            ids.to(self.device), torch.cat(images) if images else None, torch.cat(audios) if audios else None
        )


def build_prompter(
    modules: Mapping[str, nn.Module], tokenizer: Tokenizer | None, *, media: Media, format: str, where: str
) -> PromptBuilder:
    """The prompt builder of an export's modules. Raises MuomniError without a tokenizer that fits the Thinker."""
    if tokenizer is None:
        raise MuomniError(f"{where}: this export has no tokenizer; export it again")
    pieces, known = tokenizer.vocab_size, modules["thinker"].vocab_size
    if pieces != known:
        raise MuomniError(
            f"{where}: the tokenizer has {pieces} pieces, the Thinker {known}: put its own {tokenizer.file_name} back"
        )
    names = ("thinker", "vision", "image_projector", "audio", "audio_projector")
    audio = modules.get("audio")
    reader = None if audio is None else WordReader(tokenizer.encode, audio.characters)  # type: ignore[arg-type]
    model = Omni(**{name: modules.get(name) for name in names}, read_words=reader)  # type: ignore[arg-type]
    return PromptBuilder(model=model, tokenizer=tokenizer, media=media, format=format)


def prepare(text: str, options: dict[str, Any]) -> tuple[Request, GenerationOptions]:
    """Keyword options of the engine's methods -> a request and generation options. Raises InvalidOption for unknown ones."""
    options = dict(options)
    request = Request(
        text=text,
        images=as_list(options.pop("image", None)),
        audios=as_list(options.pop("audio", None)),
        system_prompt=options.pop("system_prompt", ""),
        messages=() if options.get("messages") is None else options["messages"],
        truncate=options.pop("truncate", False),
    )
    options.pop("messages", None)
    generation = options.pop("generation", "greedy")
    if isinstance(generation, str):
        chosen = preset(generation, **options)
        reject_unused_options(chosen, options)
        return request, chosen
    if not isinstance(generation, GenerationOptions):
        raise InvalidOption(
            f"generation={shown(generation)}: a preset ({', '.join(PRESETS)}) or GenerationOptions is needed",
            param="generation",
        )
    if options:
        raise InvalidOption(f"generation options are given twice: {', '.join(options)}", param=next(iter(options)))
    return request, generation


def as_list(sources: Source | Sequence[Source] | None) -> list[Source]:
    """None, one source or several -> a list."""
    if sources is None:
        return []
    return list(sources) if isinstance(sources, list | tuple) else [cast(Source, sources)]
