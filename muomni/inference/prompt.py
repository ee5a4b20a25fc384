"""A request -> embeddings for the Thinker, within its budget of tokens.

Shapes: B requests, T tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from muomni.frontends.chat import encode_prompt, media_of
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.audio_excerpt import Bound
from muomni.inference.decoding.options import PRESETS, GenerationOptions, preset, reject_unused_options
from muomni.inference.media import Media, Source
from muomni.inference.validation import require_bool, require_sequence, require_str
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.thinker import Thinker
from muomni.short_repr import shown
from muomni.special_tokens import AUDIO, IMAGE

FORMATS = ("chat", "plain")
ABOUT_IMAGE = "describe the picture"
ABOUT_AUDIO = "write down what you hear"


@dataclass(slots=True, kw_only=True)
class Request:
    """What a user asks: text, pictures, sound. `messages` (the chat format's) replaces all of them.

    truncate: what is too long is cut to what fits, the beginning of a text and the end of a sound; else it is an error.
    """

    text: str = ""
    images: list[Source] = field(default_factory=list)
    audios: list[Source] = field(default_factory=list)
    system_prompt: str = ""
    messages: Sequence[Any] = ()
    truncate: bool = False

    def __post_init__(self) -> None:
        require_str("text", self.text)
        require_str("system_prompt", self.system_prompt)
        require_bool("truncate", self.truncate)
        require_sequence("images", self.images, of="pictures", single="one of them: [picture]")
        require_sequence("audios", self.audios, of="sounds", single="one of them: [sound]")
        require_sequence("messages", self.messages, of='{"role", "content"}', single="a single question is the text")
        # An iterator would be empty when it is read again.
        self.images, self.audios, self.messages = list(self.images), list(self.audios), list(self.messages)
        beside = {"text": self.text, "image": self.images, "audio": self.audios, "system_prompt": self.system_prompt}
        idle = [name for name, value in beside.items() if value and self.messages]
        if idle:
            raise ValueError(
                f"{', '.join(f'{name}=' for name in idle)} beside messages=, which hold the whole conversation: put it into them"
            )

    @property
    def question(self) -> str:
        """The text, or what is asked about media without one; a picture with sound: the sound asks."""
        if self.text.strip() or bool(self.images) == bool(self.audios):
            return self.text
        return ABOUT_IMAGE if self.images else ABOUT_AUDIO

    def as_messages(self) -> list[Any]:
        """In the chat format. Raises ValueError for a request that holds nothing."""
        if self.messages:
            return list(self.messages)
        text = self.question
        if not text.strip() and not self.images and not self.audios:
            raise ValueError("an empty request: give text, an image or audio")
        content: list[Any] = [{"type": "image", "image": image} for image in self.images]
        content += [{"type": "audio", "audio": audio} for audio in self.audios]
        content += [{"type": "text", "text": text}] if text.strip() else []
        opening = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*opening, {"role": "user", "content": content}]


@dataclass(slots=True)
class Prompt:
    """A request in tokens: ids (T) with media slots, and the features that fill them."""

    ids: Tensor
    features: MediaFeatures

    def __len__(self) -> int:
        return len(self.ids)


class Prompter:
    """Turns requests into prompts and prompts into embeddings.

    Args:
        format: "chat" (every export that was taught to answer) or "plain" (a language model: the text goes on, behind the
            tokens of its media).
    """

    def __init__(self, *, model: Omni, tokenizer: Tokenizer, media: Media, format: str) -> None:
        if not isinstance(format, str) or format not in FORMATS:
            raise ValueError(f"unknown format {shown(format)}; available: {', '.join(FORMATS)}")
        self.model, self.tokenizer, self.media, self.format = model, tokenizer, media, format
        self.thinker = cast(Thinker, model.thinker)
        self.device = self.thinker.embedding.weight.device

    @property
    def context(self) -> int:
        """Most tokens that the Thinker reads and writes."""
        return self.thinker.max_length

    @property
    def max_audio_tokens(self) -> int:
        """Of each sound: a quarter of the context."""
        return self.context // 4

    @torch.inference_mode()
    def encode_media(self, request: Request) -> MediaFeatures:
        """Run the encoders over a request's pictures and sounds. Errors name the file."""
        if self.format == "plain" and request.messages:
            raise ValueError("a plain prompt has no roles: use format=chat for conversations")
        if self.format == "plain" and request.system_prompt:
            raise ValueError("a plain prompt has no roles: leave out system_prompt=, or use format=chat")
        images, audios = media_of(request.as_messages()) if self.format == "chat" else (request.images, request.audios)
        pictures = self.media.images(images)
        mel, lengths = self.media.mels(audios, bound=self.bound(truncate=request.truncate))
        features: MediaFeatures = self.model.encode(
            images=None if pictures is None else pictures.to(self.device),
            mel=None if mel is None else mel.to(self.device),
            mel_lengths=None if lengths is None else lengths.to(self.device),
        )
        return features

    def bound(self, *, truncate: bool) -> Bound | None:
        """Of each sound; None for a model that hears nothing, which says so itself."""
        audio, projector = self.model.audio, self.model.audio_projector
        if audio is None or projector is None:
            return None
        per_token = audio.downsample * projector.stack
        return Bound(tokens=self.max_audio_tokens, frames_per_token=per_token, truncate=truncate)

    def prompt(self, request: Request, features: MediaFeatures, *, first: bool = True) -> Prompt:
        """A request and its media in tokens; `first=False` continues a conversation."""
        counts = [] if features.audio_lengths is None else features.audio_lengths.tolist()
        image_tokens = self.model.image_tokens
        if self.format == "plain":  # [image slots][audio slots] BOS text, as micro-omni's models were trained
            # a piece begins with its space: behind one that stands alone comes none that was ever learnt there
            slots = [IMAGE] * image_tokens * len(request.images) + [AUDIO] * sum(counts)
            return Prompt(torch.tensor(slots + self.tokenizer.encode(request.question.rstrip(" "), bos=True)), features)
        sequence = encode_prompt(
            self.tokenizer, request.as_messages(), image_tokens=image_tokens, audio_tokens=counts, first=first
        )
        return Prompt(sequence.ids, features)

    def fitting(self, request: Request, features: MediaFeatures, *, max_new_tokens: int | None) -> Prompt:
        """A request as the first prompt of a context, within its budget: prompt, new tokens and one more fit.

        With `truncate` as much of the end of its text as fits. Raises ValueError where the budget is not met.
        """
        new = max_new_tokens or 1
        prompt = self.prompt(request, features)
        pieces = self.tokenizer.encode(request.text) if request.truncate and not request.messages else []
        dropped = 0
        while (total := len(prompt) + new + 1) > self.context and dropped < len(pieces):
            dropped += total - self.context  # more than once: a word cut in two may take a piece more
            shorter = replace(request, text=self.tokenizer.decode(pieces[dropped:]))
            if not shorter.text.strip():
                break
            prompt = self.prompt(shorter, features)
        if total > self.context:
            raise ValueError(
                f"Too many tokens: {total} > {self.context} ({len(prompt)} of the prompt, {new} new ones and 1): "
                "shorten the prompt, lower max_new_tokens, or allow truncate=true"
            )
        return prompt

    @torch.inference_mode()
    def embed(self, ids: Tensor, features: Sequence[MediaFeatures]) -> Tensor:
        """ids (B, T) and each row's features -> embeddings (B, T, D)."""
        merged = features[0] if len(features) == 1 else merge_features(features)
        return self.model.embed(ids.to(self.device), features=merged)


def merge_features(rows: Sequence[MediaFeatures]) -> MediaFeatures:
    """Features of several prompts as those of one batch, in order."""
    images = [row.images for row in rows if row.images is not None]
    audios = [row for row in rows if row.audios is not None]
    merged = MediaFeatures(images=torch.cat(images) if images else None)
    if audios:
        clips = [clip for row in audios for clip in row.audios]  # type: ignore[union-attr]
        merged.audios = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        merged.audio_lengths = torch.cat([row.audio_lengths for row in audios])  # type: ignore[misc]
    return merged


def prepare(text: str, options: dict[str, Any]) -> tuple[Request, GenerationOptions]:
    """Keyword options of the engine's methods -> a request and how to answer it. Raises ValueError for unknown ones."""
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
        raise ValueError(
            f"generation={shown(generation)}: a preset ({', '.join(PRESETS)}) or GenerationOptions is needed"
        )
    if options:
        raise ValueError(f"generation options are given twice: {', '.join(options)}")
    return request, generation


def as_list(sources: Source | Sequence[Source] | None) -> list[Source]:
    """None, one source or several -> a list."""
    if sources is None:
        return []
    return list(sources) if isinstance(sources, list | tuple) else [cast(Source, sources)]
