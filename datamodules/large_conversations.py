"""Conversations whose rows stay on the disk: a row is read and encoded, and its media are decoded, when it is drawn. What must be
known of all rows is computed once and kept: their tasks, which of them hold images, and their tokens at most, recordings by
their headers.

Legend: T tokens, F mel frames, M mel bins, S image side.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.conditions import AcousticSimulator
from datamodules.conversations import OmniSample
from datamodules.lazy_media import seconds_of
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, RowSet, keep_rows, label, log_skipped, report_bad
from datamodules.media import Media
from datamodules.mixture import select_evenly_of, shown_shares
from muomni.frontends.audio_io import decode_audio
from muomni.frontends.chat import encode_messages, media_of, text_of
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.image import ImageFrontend, ImageSpec, read_image
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer

UNREADABLE, LONG_AUDIO = 0, -1  # in place of the tokens of a row
PROBE = "The Ünï, A"  # tells one form of texts from another


@dataclass(kw_only=True, eq=False)
class Drawing:
    """How a row becomes a sample.

    frames_per_token: mel frames of an audio token. simulate: of each recording, always the same conditions, by `seed` and its
    name; None: none.
    """

    tokenizer: Tokenizer
    image: ImageSpec
    mel: MelSpec
    hearing: HearingSpec | None
    image_tokens: int
    frames_per_token: int
    max_length: int
    max_audio_tokens: int
    simulate: AcousticSimulator | None
    seed: int

    def __post_init__(self) -> None:
        self.frontend, self.prepare = ImageFrontend(self.image), Hearing(self.mel, self.hearing)

    @property
    def _around(self) -> int:
        """Frames of silence that conditions add to a clip, at most."""
        return 0 if self.simulate is None else 2 * round(self.simulate.how.margin * self.mel.frame_rate)

    def key(self) -> list[Any]:
        """What `tokens` depends on, as JSON has it."""
        text = [self.tokenizer.fingerprint(), self.tokenizer.encode(PROBE)]
        return [
            *text,
            self.image_tokens,
            self.frames_per_token,
            self.mel.frame_rate,
            self._around,
            self.max_audio_tokens,
        ]

    def tokens(self, row: Row) -> int:
        """Of a row, at most: silence at the ends of a recording may be cut off when it is decoded. `UNREADABLE`, `LONG_AUDIO`
        for a row that cannot be used."""
        counts = []
        for clip in media_of(row["messages"])[1]:
            try:
                frames = math.ceil(seconds_of(clip) * self.mel.frame_rate) + self._around
            except (ValueError, OSError):
                return UNREADABLE
            counts.append(-(-frames // self.frames_per_token))
        if any(count > self.max_audio_tokens for count in counts):
            return LONG_AUDIO
        sequence = encode_messages(self.tokenizer, row["messages"], image_tokens=self.image_tokens, audio_tokens=counts)
        return len(sequence.ids)

    def sample(self, row: Row) -> OmniSample:
        """Raises ValueError or OSError for media that cannot be read."""
        images, audios = media_of(row["messages"])
        mels = [self._mel(audio) for audio in audios]
        counts = [-(-len(mel) // self.frames_per_token) for mel in mels]
        sequence = encode_messages(self.tokenizer, row["messages"], image_tokens=self.image_tokens, audio_tokens=counts)
        if len(sequence.ids) > self.max_length:
            raise ValueError(
                f"{len(sequence.ids)} tokens, at most {self.max_length}: its recordings are longer than they say"
            )
        mark = "" if self.simulate is None else "#recorded"
        return OmniSample(
            ids=sequence.ids,
            targets=sequence.targets,
            branches=None,
            images=[self._image(image) for image in images],
            mels=mels,
            image_keys=images,
            audio_keys=[f"{each}{mark}" if mark else each for each in audios],
            question=text_of(row["messages"][-2]),
            row=row,
        )

    def _image(self, image: Media) -> Tensor:
        """(3, S, S) float32."""
        return self.frontend(read_image(image, matte=self.image.matte)).half().float()  # as a cache keeps it

    def _mel(self, audio: Media) -> Tensor:
        """(F, M) float32."""
        mel = self.prepare(decode_audio(audio, self.mel.sample_rate).waveform).trimmed()
        if not len(mel):
            raise ValueError(f"{audio}: shorter than a frame")
        kept = mel.numpy().astype(np.float16).astype(np.float32)
        if self.simulate is not None:
            number = int.from_bytes(hashlib.blake2b(str(audio).encode(), digest_size=8).digest(), "little")
            kept = self.simulate(kept, np.random.default_rng([self.seed, number])).mel
        return torch.from_numpy(kept)


@dataclass(eq=False, kw_only=True)
class LargeConversations(RowSet):
    """As `Conversations`, of rows on the disk.

    Args:
        tokens: of each row, at most. tasks: names; codes: which of them each row is of. replay: (row, (ids, targets)) of
            documents that are learnt along, after the rows. replay_lengths: their tokens.
    """

    drawing: Drawing
    tokens: np.ndarray
    tasks: Sequence[str]
    codes: np.ndarray
    replay: Sequence[tuple[Row, tuple[Tensor, Tensor]]] = ()
    replay_lengths: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.rows) + len(self.replay)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample, media slots included, at most."""
        return np.concatenate([self.tokens, self.replay_lengths]) if len(self.replay) else self.tokens

    def evenly(self, shares: Mapping[str, float]) -> np.ndarray:
        """True for a share of each task's samples, none of those that are not named."""
        return np.pad(select_evenly_of(self.codes, self.tasks, shares, default=0.0), (0, len(self.replay)))

    def name(self, index: int) -> str:
        return str(self.replay[index - len(self.rows)][0]["id"]) if index >= len(self.rows) else super().name(index)

    def item(self, index: int, epoch: int) -> OmniSample:
        if index < len(self.rows):
            return self.drawing.sample(self.rows[index])
        row, (ids, targets) = self.replay[index - len(self.rows)]
        return OmniSample(
            ids=ids,
            targets=targets,
            branches=None,
            images=[],
            mels=[],
            image_keys=[],
            audio_keys=[],
            question="",
            row=row,
        )


def large_conversations(
    rows: LazyRows, drawing: Drawing, *, shares: Mapping[str, float] | None, what: str
) -> LargeConversations:
    """The rows that fit, of the tasks in `shares` a share. what: the manifest's name in messages. Raises ValueError where over
    1 % of the rows do not fit, or cannot be read, and where none is left."""
    rows = rows.mapped(with_task, key="task")
    if not drawing.image_tokens:
        kept = ~rows.column("holds images", lambda row: bool(media_of(row["messages"])[0]), dtype=bool)
        rows = _kept(rows, kept, what=what, why="they hold images (image_tokens=none)")
    if not len(rows):
        raise ValueError(f"{what}: every row holds an image, and image_tokens=none leaves them out: give text or audio")
    names, codes = tasks_of(rows)
    if shares:
        chosen = select_evenly_of(codes, names, shares, default=1.0)
        rows = _kept(rows, chosen, what=what, why=f"datamodule.shares takes {shown_shares(shares)}")
        codes = codes[chosen]
    tokens = rows.column("conversation tokens", drawing.tokens, dtype=np.int32, key=drawing.key())
    fits = (tokens > 0) & (tokens <= drawing.max_length)
    _report(rows, tokens, fits, drawing, what=what)
    if fits.all():
        return LargeConversations(rows=rows, drawing=drawing, tokens=tokens, tasks=names, codes=codes)
    return LargeConversations(
        rows=rows.choose(fits), drawing=drawing, tokens=tokens[fits], tasks=names, codes=codes[fits]
    )


def with_task(row: Row) -> Row:
    """The row with its task, "chat" where it names none."""
    return row | {"task": label(row, "task", "chat")}


def tasks_of(rows: LazyRows) -> tuple[list[str], np.ndarray]:
    """The tasks of rows that name one each: names, and which of them each row is of, int16."""
    names = rows.summary("tasks", _tasks)
    numbers = {name: number for number, name in enumerate(names)}
    return names, rows.column("task", lambda row: numbers.get(row["task"], -1), dtype=np.int16, key=names)


def _tasks(rows: Iterable[Row]) -> list[str]:
    return sorted({row["task"] for row in rows})


def _kept(rows: LazyRows, kept: np.ndarray, *, what: str, why: str) -> LazyRows:
    chosen = keep_rows(rows, kept, what=what, why=why)
    assert isinstance(chosen, LazyRows)
    return chosen


def _report(rows: LazyRows, tokens: np.ndarray, fits: np.ndarray, drawing: Drawing, *, what: str) -> None:
    """Say what is left out; over 1 % is a ValueError."""
    unreadable = np.flatnonzero(tokens == UNREADABLE)
    if len(unreadable):
        first = rows[int(unreadable[0])]
        named = f"{first['id']}: cannot read {', '.join(map(str, media_of(first['messages'])[1]))}"
        report_bad([named] * len(unreadable), total=len(rows), what=what)
    long = np.flatnonzero(~fits & (tokens != UNREADABLE))
    limits = f"{drawing.max_length} tokens, or their audio than {drawing.max_audio_tokens}"
    if len(long) > 0.01 * len(rows):
        size = int(tokens[long[0]])
        found = f"{size} > {drawing.max_length}" if size > 0 else f"an audio of more than {drawing.max_audio_tokens}"
        example = f"{rows[int(long[0])]['id']}: Too many tokens: {found}"
        raise ValueError(
            f"{what}: {len(long)} of {len(rows)} rows do not fit {drawing.max_length} tokens; the first: {example}"
        )
    why = f"longer than {limits} (datamodule.max_length, max_audio_tokens)"
    log_skipped(len(long), len(rows), what=what, why=why)
