"""Conversations over text, images and audio, for instruction tuning.

Legend: T tokens.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from datamodules.base import DataModule
from datamodules.conditions import Conditions, FixedConditions, simulator_for
from datamodules.conversations import Conversations, OmniSample, answer_of, branch_positions, is_plain_text, meta_of
from datamodules.image_cache import ImageCache, drop_broken_images
from datamodules.large_conversations import Drawing, LargeConversations, large_conversations, with_task
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, keep_rows, label, log_skipped
from datamodules.media import Media
from datamodules.mel_cache import MelCache, cached_mels
from datamodules.mixture import group_questions, select_evenly, subsample
from datamodules.packing import bin_pack, pack, pad_packed
from datamodules.replay import REPLAY, large_replay, replay_rows
from datamodules.tokenizer_cache import tokenizer_of_export
from muomni.batch import OmniBatch
from muomni.frontends.chat import ChatSequence, encode_branches, encode_messages, media_of, text_of
from muomni.frontends.hearing import HearingSpec
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import EOS, IGNORE, PAD

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class SftData(DataModule):
    """SFT manifests (see datamodules/manifests.py), and plain text questions `{"prompt", "answer"}` among the tests.

    Options have their comments in conf/stage/omni_sft.yaml. Longer training rows than `max_length` tokens, or `max_audio_tokens`
    of one audio, are left out and counted, as are rows with images where image_tokens="none".

    Args:
        hearing: how recordings are prepared; None: not at all. conditions: None: none are simulated.
        audio_downsample, audio_stack: an audio token stands for their product of mel frames.
        shares: of rows of `questions_per_row` where that joins some; evenly spread.
        curriculum: descriptions of images ground the image tokens many times faster than short answers do.
        replay: text manifest whose documents are learnt along, whole, as in pretraining; None: none.
        pack: each conversation attends to itself alone; None: one a row, in batches of similar lengths.
        memory_mb: for decoded images of a split.
    """

    tokenizer: Any
    image: ImageSpec
    mel: MelSpec
    cache: str | None
    image_tokens: Any
    image_grid: int
    audio_downsample: int
    audio_stack: int
    max_length: int
    max_audio_tokens: int
    shares: Mapping[str, float] | None
    questions_per_row: int
    isolated_share: float
    curriculum: Mapping[str, float] | None
    memory_mb: int
    pack: int | None = None
    replay: str | None = None
    replay_share: float = 0.0
    replay_kinds: Mapping[str, float] | None = None
    hearing: HearingSpec | None = None
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.replay_share < 1:
            raise ValueError(
                f"datamodule.replay_share={self.replay_share}: a share of all rows, at least 0 and below 1"
            )
        if self.isolated_share and self.pack is None:
            raise ValueError(
                f"datamodule.isolated_share={self.isolated_share}: questions are isolated in packed rows only; "
                "give datamodule.pack"
            )
        counts = {"cls": 1, "grid": self.image_grid**2, "none": 0}
        if self.image_tokens not in counts:
            raise ValueError(f"datamodule.image_tokens={self.image_tokens!r}; available: {', '.join(counts)}")
        self.image_tokens = counts[self.image_tokens]
        self.replay_path = Path(self.replay) if self.replay and self.replay_share else None
        self.tokenizer_path = tokenizer_of_export(self.tokenizer)
        self.tokenizer = Tokenizer.load(self.tokenizer_path).with_form(self.text_form)
        self.simulate = simulator_for(self.conditions, self.mel, self.hearing)
        self.frames_per_token = self.audio_downsample * self.audio_stack

    def load(self, path: Path, split: str | None, *, phase: str) -> Conversations | LargeConversations:
        train, what = phase == "train", str(path)
        if not train and is_plain_text(path, self.reading):
            return self._plain(self.read_rows(path, split, shape="text", phase=phase))
        read = self.read_rows(path, split, shape="sft", phase=phase)
        if isinstance(read, LazyRows):
            return self._large(read, train=train, what=what)
        rows: Sequence[Row] = [with_task(row) for row in read]
        if self.image_tokens:
            rows = drop_broken_images(rows, what=what, images=lambda row: media_of(row["messages"])[0])
        else:
            kept = (not media_of(row["messages"])[0] for row in rows)
            rows = keep_rows(rows, kept, what=what, why="they hold images (image_tokens=none)")
        if train:
            joined = group_questions(
                rows, per_row=self.questions_per_row, isolated_share=self.isolated_share, fits=self._fits, what=what
            )
            what += ", its questions joined" if len(joined) < len(rows) else ""  # what is counted from here on
            rows = subsample(joined, self.shares, what=what)
        if train and not rows:
            raise ValueError(
                f"{path}: every row holds an image, and image_tokens=none leaves them out: give text or audio"
            )
        clips = list(dict.fromkeys(clip for row in rows for clip in media_of(row["messages"])[1]))
        mels = self._mels(clips, simulated=train, what=str(path)) if clips else None
        lengths = {} if mels is None else dict(zip(clips, map(int, mels.lengths), strict=True))
        encoded = self._encode_all(rows, lengths, what=what)
        rows = [rows[index] for index in encoded]
        media = [media_of(row["messages"]) for row in rows]
        sequences = [(sequence.ids, sequence.targets) for sequence in encoded.values()]
        branches = {row: each.branches for row, each in enumerate(encoded.values()) if each.branches is not None}
        if train and self.replay_path is not None:
            old, documents = replay_rows(self.replay_path, self.tokenizer, **self._replayed(len(rows)))
            rows, sequences, media = [*rows, *old], sequences + documents, media + [([], [])] * len(old)
        images = list(dict.fromkeys(image for images, _ in media for image in images))
        return Conversations(
            rows=rows,
            sequences=sequences,
            media=media,
            branches=branches,
            images=ImageCache(images, self.image, memory_mb=self.memory_mb),
            mels=mels,
            mel_index={clip: index for index, clip in enumerate(clips)},
            audio_mark="#recorded" if train and self.simulate is not None else "",
        )

    def _large(self, rows: LazyRows, *, train: bool, what: str) -> LargeConversations:
        """The samples of rows that stay on the disk."""
        drawing = Drawing(
            tokenizer=self.tokenizer, image=self.image, mel=self.mel, hearing=self.hearing, image_tokens=self.image_tokens,
            frames_per_token=self.frames_per_token, max_length=self.max_length, max_audio_tokens=self.max_audio_tokens,
            simulate=self.simulate if train else None, seed=self.seed,
        )  # fmt: skip
        samples = large_conversations(rows, drawing, shares=self.shares if train else None, what=what)
        if train and self.questions_per_row > 1:
            log.warning("%s: its rows stay on the disk, and questions about one image are not joined", what)
        if train and self.replay_path is not None:
            samples.replay, samples.replay_lengths = large_replay(
                self.replay_path, self.tokenizer, **self._replayed(len(samples))
            )
        return samples

    def _replayed(self, rows: int) -> dict[str, Any]:
        """Arguments of `replay_rows`, next to so many rows."""
        return {
            "count": round(rows * self.replay_share / (1 - self.replay_share)),
            "shares": self.replay_kinds or {},
            "max_length": self.max_length,
            "seed": self.seed,
            "cache": self.cache,
        }

    def _mels(self, clips: list[Media], *, simulated: bool, what: str) -> MelCache | FixedConditions:
        files = [{"id": clip, "audio": clip} for clip in clips]
        mels = cached_mels(files, self.mel, cache=self.cache, what=what, hearing=self.hearing)
        return FixedConditions(mels, self.simulate, seed=self.seed) if simulated and self.simulate else mels

    def _encode_all(self, rows: Sequence[Row], lengths: Mapping[Media, int], *, what: str) -> dict[int, ChatSequence]:
        """Index -> tokens of the rows that are short enough. lengths: mel frames of each clip. what: names the manifest.

        Raises ValueError where over 1 % of the rows are not.
        """
        encoded: dict[int, ChatSequence] = {}
        long: list[str] = []
        for index, row in enumerate(rows):
            counts = [-(-lengths[clip] // self.frames_per_token) for clip in media_of(row["messages"])[1]]
            sequence = self._encode(row, counts)
            if len(sequence.ids) <= self.max_length and all(0 < count <= self.max_audio_tokens for count in counts):
                encoded[index] = sequence
            else:
                size = f"{len(sequence.ids)} > {self.max_length} (audio: {counts}, at most {self.max_audio_tokens})"
                long.append(f"{row['id']}: Too many tokens: {size}")
        if len(encoded) < 0.99 * len(rows):
            many = f"{len(long)} of {len(rows)} rows do not fit {self.max_length} tokens"
            raise ValueError(f"{what}: {many}; the first: {long[0]}")
        limits = f"{self.max_length} tokens, or their audio than {self.max_audio_tokens}"
        why = f"longer than {limits} (datamodule.max_length, max_audio_tokens)"
        log_skipped(len(long), len(rows), what=what, why=why)
        return encoded

    def _fits(self, row: Mapping[str, Any]) -> bool:
        """True if a row with one image is short enough."""
        conversations = [row["messages"], *row.get("others", [])]
        # No text has more tokens than bytes, and one more for the space before it.
        most = sum(len(text_of(turn).encode()) + 3 for each in conversations for turn in each) + len(conversations)
        return most + self.image_tokens <= self.max_length or len(self._encode(row, []).ids) <= self.max_length

    def _encode(self, row: Mapping[str, Any], audio_tokens: list[int]) -> ChatSequence:
        if "others" in row:
            return encode_branches(self.tokenizer, [row["messages"], *row["others"]], image_tokens=self.image_tokens)
        return encode_messages(
            self.tokenizer, row["messages"], image_tokens=self.image_tokens, audio_tokens=audio_tokens
        )

    def _plain(self, rows: Sequence[Row]) -> Conversations:
        """Questions in the form that the Thinker was pretrained on: the text continues with the answer."""
        rows, sequences = list(rows), []
        for row in rows:
            prompt = self.tokenizer.encode(row["prompt"], bos=True)
            answer = [*self.tokenizer.encode_next(row["answer"]), EOS]
            ids = torch.tensor(prompt + answer)
            targets = torch.full_like(ids, IGNORE)
            targets[len(prompt) - 1 : -1] = ids[len(prompt) :]
            sequences.append((ids, targets))
            row["task"] = "plain"
            row["meta"] = {"question": label(row, "kind", "text")}
        images = ImageCache([], self.image, memory_mb=0)
        return Conversations(rows=rows, sequences=sequences, media=[([], [])] * len(rows), images=images)

    def lengths(self, samples: Conversations | LargeConversations) -> np.ndarray | None:
        return samples.lengths if self.pack is None else None

    def curriculum_mask(self, samples: Conversations | LargeConversations) -> np.ndarray | None:
        if not self.curriculum:
            return None
        if isinstance(samples, LargeConversations):
            return samples.evenly(self.curriculum)
        return select_evenly([row.get("task", "chat") for row in samples.rows], self.curriculum, default=0.0)

    def metadata(self) -> dict[str, Any]:
        return {
            "image": self.image.metadata(),
            "mel": self.mel.metadata(),
            "hearing": None if self.hearing is None else self.hearing.metadata(),
            "tokenizer": self.tokenizer_path,
            "tokenizer_fingerprint": self.tokenizer.fingerprint(),
            "encode": self.tokenizer.encode,
            "decode": self.tokenizer.decode,
        }

    def collate_train(self, samples: Sequence[OmniSample]) -> OmniBatch:
        """Conversations packed into rows, where `pack` says so; media in the order of their slots."""
        if self.pack is None:
            return self._mark_replayed(self.collate(samples), samples, [[index] for index in range(len(samples))])
        rows = bin_pack([len(sample.ids) for sample in samples], width=self.pack)
        ids, targets, segments = pack([(sample.ids, sample.targets) for sample in samples], rows)
        batch = self.collate([samples[index] for row in rows for index in row])
        branches = positions = None
        if any(sample.branches is not None for sample in samples):
            every = [torch.zeros_like(s.ids) if s.branches is None else s.branches for s in samples]
            branches = pad_packed(every, rows, fill=0)
            positions = pad_packed([branch_positions(each) for each in every], rows, fill=0)
        batch.ids, batch.targets = ids, targets
        batch.mask = SegmentMask.with_runs(segments, branches, positions)
        return self._mark_replayed(batch, samples, rows)

    def _mark_replayed(
        self, batch: OmniBatch, samples: Sequence[OmniSample], rows: Sequence[Sequence[int]]
    ) -> OmniBatch:
        """Where documents are replayed, every batch says which tokens are theirs, also one that holds none: all processes
        have the same losses."""
        if self.replay_path is not None:
            old = [torch.full(sample.ids.shape, sample.row.get("task") == REPLAY) for sample in samples]
            batch.replayed = pad_packed(old, rows, fill=False)
        return batch

    def collate(self, samples: Sequence[OmniSample]) -> OmniBatch:
        """Pad rows on the right, mels by zeros."""
        images = [image for sample in samples for image in sample.images]
        mels = [mel for sample in samples for mel in sample.mels]
        return OmniBatch(
            ids=pad_sequence([sample.ids for sample in samples], batch_first=True, padding_value=PAD),
            targets=pad_sequence([sample.targets for sample in samples], batch_first=True, padding_value=IGNORE),
            lengths=torch.tensor([len(sample.ids) for sample in samples]),
            images=torch.stack(images) if images else None,
            mel=pad_sequence(mels, batch_first=True) if mels else None,
            mel_lengths=torch.tensor([len(mel) for mel in mels]) if mels else None,
            image_rows=[row for row, sample in enumerate(samples) for _ in sample.images],
            audio_rows=[row for row, sample in enumerate(samples) for _ in sample.mels],
            image_keys=[key for sample in samples for key in sample.image_keys],
            audio_keys=[key for sample in samples for key in sample.audio_keys],
            questions=[sample.question for sample in samples],
            answers=[self.in_form(answer_of(sample.row)) for sample in samples],
            tasks=[sample.row["task"] for sample in samples],
            meta=[meta_of(sample.row) for sample in samples],
            sample_ids=[str(sample.row["id"]) for sample in samples],
        )
