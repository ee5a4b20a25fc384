"""What a worker process does: the facts of a row's media and the tokens of its texts. Nothing here imports Lightning, and
nothing computes with torch, so that a forked worker is safe."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.check.topic import Facts
from datamodules.media import Media, open_media
from muomni.frontends.audio_io import inspect_audio
from muomni.frontends.chat import encode_messages
from muomni.frontends.image_file import inspect_image
from muomni.frontends.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Work:
    """Of a row: its media, and its texts where tokens are counted: strings, or the messages of a conversation."""

    images: Sequence[Media] = ()
    audios: Sequence[Media] = ()
    texts: Sequence[str] = ()
    together: bool = False  # the texts are one sequence
    messages: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """facts of the images, then of the recordings, a text where one cannot be read; digests of the images that can, else
    0; tokens of each sequence."""

    facts: Sequence[Facts | str]
    digests: Sequence[int]
    tokens: Sequence[int]


_tokenizer: list[Tokenizer] = []
_image_tokens = [0]


def begin(tokenizer: Tokenizer | None, image_tokens: int) -> None:
    """Before the first work of a process. image_tokens: of an image inside a conversation."""
    _tokenizer[:] = [] if tokenizer is None else [tokenizer]
    _image_tokens[0] = image_tokens


def inspect(work: Work) -> Outcome:
    """Do it. Never raises for what is wrong with the data."""
    facts: list[Facts | str] = []
    digests = []
    for image in work.images:
        try:
            facts.append(inspect_image(image))
            with open_media(image) as file:
                digests.append(int.from_bytes(hashlib.blake2b(file.read(), digest_size=8).digest(), "little"))
        except (ValueError, OSError) as error:
            facts.append(str(error))
            digests.append(0)
    for audio in work.audios:
        try:
            facts.append(inspect_audio(audio))
        except (ValueError, OSError) as error:
            facts.append(str(error))
    return Outcome(facts, digests, _tokens(work))


def inspect_all(works: Sequence[Work]) -> list[Outcome]:
    """Several, which cost less to hand over."""
    return [inspect(work) for work in works]


def _tokens(work: Work) -> list[int]:
    if not _tokenizer:
        return []
    tokenizer = _tokenizer[0]
    if work.messages:
        counts = [0] * len(work.audios)
        return [len(encode_messages(tokenizer, work.messages, image_tokens=_image_tokens[0], audio_tokens=counts).ids)]
    counts = [len(tokenizer.encode(text)) for text in work.texts]
    return [sum(counts) + 1] if work.together and counts else counts  # BOS or EOS: inputs or targets, not both
