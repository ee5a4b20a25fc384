"""Speech with its text: for the audio encoder, the codec and the Talker.

Legend: B batch, T frames, M mel bins, C characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.augment import MelAugment
from datamodules.base import SampleSet
from datamodules.char_vocab import CharacterData, clean_transcript, normalized_rows
from datamodules.conditions import AcousticSimulator, Conditions, simulator_for
from datamodules.manifests import log_skipped, read_manifest
from datamodules.mel_cache import MelCache, cached_mels
from muomni.batch import SpeechBatch
from muomni.frontends.char_vocab import ctc_frames_needed, encode_characters
from muomni.frontends.hearing import HearingSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.text_normalizer import LETTERS


@dataclass(slots=True)
class SpeechSample:
    """mel (T, M) float32; characters (C) int64; text as it was encoded; audio: path of the recording. Of the mel, `lead`
    frames at the front and `trail` at the end are silence that a batch may leave out."""

    mel: np.ndarray
    characters: np.ndarray
    speaker: int
    text: str
    audio: str
    sample_id: str
    lead: int = 0
    trail: int = 0


class SpeechSet:
    """Clips of a manifest.

    Args:
        rows: the manifest's, with "audio" and "text". mels: theirs. characters: the model's own. speakers: name -> number.
        augment, record: of the drawn items, None for none. seed: of both.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        mels: MelCache,
        *,
        characters: str | None,
        speakers: dict[str, int],
        augment: MelAugment | None,
        seed: int,
        record: AcousticSimulator | None = None,
    ) -> None:
        self.rows, self.mels, self.speakers, self.characters = rows, mels, speakers, characters
        self.augment, self.record, self.seed = augment, record, seed
        self.index = np.flatnonzero(mels.lengths > 0)  # clips that could be read

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> np.ndarray:
        """Mel frames of each clip."""
        return self.mels.lengths[self.index]

    def name(self, index: int) -> str:
        """The clip's id."""
        return str(self.rows[int(self.index[index])]["id"])

    def item(self, index: int, epoch: int) -> SpeechSample:
        """Clip `index`, augmented as a function of (seed, epoch, index) unless the epoch is -1."""
        place = int(self.index[index])
        row, mel = self.rows[place], self.mels[place]
        text, lead, trail = row["text"], 0, 0
        if epoch >= 0:
            rng = np.random.default_rng([self.seed, epoch, index])
            if self.augment is not None:
                mel = self.augment(mel, rng)
            if self.record is not None:
                recorded = self.record(mel, rng)
                mel, lead, trail = recorded.mel, recorded.lead, recorded.trail
                text = text if recorded.spoken else ""
        return SpeechSample(
            mel=mel,
            characters=np.array(encode_characters(text, self.characters), dtype=np.int64),
            speaker=self.speakers.get(str(row.get("speaker", 0)), 0),
            text=text,
            audio=row["audio"],
            sample_id=str(row["id"]),
            lead=lead,
            trail=trail,
        )


class SpeechData(CharacterData):
    """Speech manifests.

    Args:
        mel: the spectrogram. hearing: how clips are prepared for an encoder; None: they are left as they are.
        cache: folder that keeps computed mels, None: in memory only.
        augment: of training clips, None: none. conditions: under which they are recorded anew, None: as they are; they
            need `hearing`, which brings voices to a level.
        speakers: keep only clips of these (as the manifest names them), numbered in this order; None keeps all,
            numbered in the order of their names (numbers by value) in the training manifest.
        most_speakers: that the model can tell apart; None: any number.
        test_kinds: of the test splits, keep only clips whose "kind" is one of these, or that have none; null keeps all.
        max_seconds: longer training clips are left out and counted.
        lowercase: texts in lower case.
        in_words: texts as they are spoken (muomni/frontends/text_normalizer.py), numbers and signs in words; a clip whose text
            holds what has no words is left out and counted.
        characters: that the model writes or reads (datamodules/char_vocab.py).
        symbol_frames: mel frames that CTC needs to write a symbol; training clips with fewer than their text needs are
            counted, the loss leaves them out. None: the model is not trained by CTC.
    """

    shape = "speech"

    def __init__(
        self,
        *,
        mel: MelSpec,
        cache: str | None,
        augment: MelAugment | None,
        speakers: list[Any] | None,
        test_kinds: list[str] | None,
        max_seconds: float,
        lowercase: bool,
        in_words: bool = False,
        most_speakers: int | None = None,
        hearing: HearingSpec | None = None,
        conditions: Conditions | None = None,
        characters: str | None = None,
        symbol_frames: int | None = None,
        **loaders: Any,
    ) -> None:
        super().__init__(characters=characters, **loaders)
        self.mel, self.hearing, self.augment = mel, hearing, augment
        self.record = simulator_for(conditions, mel, hearing)
        self.cache = None if cache is None else Path(cache)
        self.wanted = None if speakers is None else [str(speaker) for speaker in speakers]
        self.test_kinds = None if test_kinds is None else set(test_kinds)
        self.max_seconds, self.lowercase, self.in_words = max_seconds, lowercase, in_words
        self.most_speakers, self.symbol_frames = most_speakers, symbol_frames
        self._speakers: dict[str, int] | None = None

    def spell(self, text: str) -> str:
        """Without space at its ends, where it is asked for in lower case."""
        return clean_transcript(text, lowercase=self.lowercase)

    def load(self, path: Path, split: str | None, *, train: bool) -> SpeechSet:
        """Read a manifest and its mels."""
        rows = read_manifest(path, shape=self.shape, split=split, root=self.root)
        if self.wanted is not None:
            kept = [row for row in rows if str(row.get("speaker", 0)) in self.wanted]
            why = f"their speaker is not {', '.join(self.wanted)} (datamodule.speakers)"
            log_skipped(len(rows) - len(kept), len(rows), what=str(path), why=why)
            rows = kept
            if not rows:
                raise ValueError(f"{path}: no clip of the speakers {', '.join(self.wanted)}; set datamodule.speakers")
        for row in rows:
            row["text"] = self.spell(row["text"])
        self.learn_characters(rows, train=train)
        if self.in_words:
            rows = normalized_rows(rows, alphabet=self.alphabet.characters or LETTERS, what=str(path))
        self.alphabet.check((row["text"] for row in rows), what=str(path))
        mels = cached_mels(rows, self.mel, cache=self.cache, what=str(path), hearing=self.hearing)
        samples = SpeechSet(
            rows,
            mels,
            characters=self.alphabet.characters,
            speakers=self._number(rows, train=train),
            augment=self.augment if train else None,
            record=self.record if train else None,
            seed=self.seed,
        )
        if train:
            fits = samples.lengths <= self.max_seconds * self.mel.frame_rate
            why = f"longer than {self.max_seconds:g} s (datamodule.max_seconds)"
            log_skipped(int((~fits).sum()), len(rows), what=str(path), why=why)
            samples.index = samples.index[fits]
            self._say_too_short(samples, what=str(path))
        return samples

    def _say_too_short(self, samples: SpeechSet, *, what: str) -> None:
        if self.symbol_frames is None:
            return
        needed = [
            ctc_frames_needed(encode_characters(samples.rows[place]["text"], samples.characters))
            for place in samples.index
        ]
        short = int((-(-samples.lengths // self.symbol_frames) < np.array(needed)).sum())
        why = f"their texts need more than a symbol in {self.symbol_frames / self.mel.frame_rate:g} s (too_short in the metrics)"
        log_skipped(short, len(samples), what=what, why=why)

    def samples(self, kind: str) -> SampleSet:
        """As the base has it; test splits keep the asked kinds of clips only."""
        known = kind in self._sets
        samples = super().samples(kind)
        if not known and kind.startswith("test/") and self.test_kinds is not None:
            assert isinstance(samples, SpeechSet)
            fits = [samples.rows[place].get("kind") in (None, *self.test_kinds) for place in samples.index]
            wanted = sorted(self.test_kinds)
            why = f"their kind is not {', '.join(wanted)} (datamodule.test_kinds)"
            log_skipped(fits.count(False), len(fits), what=kind, why=why)
            if not any(fits):
                raise ValueError(f"{kind}: no clip of the kinds {wanted}; set datamodule.test_kinds=null")
            samples.index = samples.index[fits]
        return samples

    def _number(self, rows: list[dict[str, Any]], *, train: bool) -> dict[str, int]:
        """Speaker name -> number, the same for all splits; one that training does not know is number 0.

        Raises ValueError where there are more than the model tells apart.
        """
        if self._speakers is None and self.wanted is not None:
            self._speakers = {name: number for number, name in enumerate(self.wanted)}
        if self._speakers is None:
            if self.train_path is not None and not train:
                split = self.splits.get("train")
                rows = read_manifest(self.train_path, shape=self.shape, split=split, root=self.root)
            names = {str(row.get("speaker", 0)) for row in rows}
            order = sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
            self._speakers = {name: number for number, name in enumerate(order)}
        if self.most_speakers is not None and len(self._speakers) > self.most_speakers:
            shown = ", ".join(list(self._speakers)[:5]) + (", .." if len(self._speakers) > 5 else "")
            raise ValueError(
                f"{self.train_path or 'data'}: {len(self._speakers)} speakers ({shown}) and a Talker of "
                f"{self.most_speakers}: give backbone.talker.num_speakers={len(self._speakers)}, or say whose clips are "
                "used, speakers=[NAME]"
            )
        return self._speakers

    def lengths(self, samples: SpeechSet) -> np.ndarray:
        """Frames, so that clips of similar length share a batch."""
        return samples.lengths

    def collate(self, samples: Sequence[SpeechSample]) -> SpeechBatch:
        """Pad mels and characters by zeros. Silence around a clip takes the room that its batch has."""
        mels = fit_silence(samples)
        frames = [len(mel) for mel in mels]
        counts = [len(sample.characters) for sample in samples]
        mel = torch.zeros(len(samples), max(frames), self.mel.bins)
        characters = torch.zeros(len(samples), max(counts), dtype=torch.long)
        for row, sample in enumerate(samples):
            mel[row, : frames[row]] = torch.from_numpy(mels[row])
            characters[row, : counts[row]] = torch.from_numpy(sample.characters)
        return SpeechBatch(
            mel=mel,
            mel_lengths=torch.tensor(frames),
            characters=characters,
            character_lengths=torch.tensor(counts),
            speakers=torch.tensor([sample.speaker for sample in samples]),
            texts=[sample.text for sample in samples],
            audio=[sample.audio for sample in samples],
            sample_ids=[sample.sample_id for sample in samples],
        )

    def facts(self) -> dict[str, Any]:
        """What the stage must know: the spectrogram, and how clips were prepared."""
        return {"mel": self.mel.facts()} | ({} if self.hearing is None else {"hearing": self.hearing.facts()})


def fit_silence(samples: Sequence[SpeechSample]) -> list[np.ndarray]:
    """Mels (T, M), none longer than the longest clip without the silence around it: a batch takes no more time for it."""
    widest = max(len(sample.mel) - sample.lead - sample.trail for sample in samples)
    mels = []
    for sample in samples:
        surplus = max(0, len(sample.mel) - widest)
        around = sample.lead + sample.trail
        front = 0 if not around else round(surplus * sample.lead / around)
        mels.append(sample.mel[front : len(sample.mel) - (surplus - front)])
    return mels
