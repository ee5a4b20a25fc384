"""Speech with its text: for the audio encoder, the codec and the Talker.

Legend: B batch, T frames, M mel bins, C characters.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from datamodules.augment import MelAugment
from datamodules.char_vocab import CharacterData, clean_transcript, normalized_rows
from datamodules.conditions import Conditions, simulator_for
from datamodules.held_out import same_file
from datamodules.lazy_media import LazyMels
from datamodules.lazy_rows import LazyRows, column, summary
from datamodules.manifests import Row, keep_rows, log_skipped
from datamodules.mel_cache import MelCache, cached_mels
from datamodules.same_speaker import speaker_of
from datamodules.spec_augment import SpecAugment
from datamodules.speech_set import AugmentedClips, SpeechSample, SpeechSet, fit_silence
from datamodules.waveform_augment import WaveformAugment, WaveformAugmenter
from datamodules.waveform_cache import WaveformCache
from muomni.batch import SpeechBatch
from muomni.frontends.char_vocab import ctc_frames_needed, encode_characters
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.text_normalizer import LETTERS

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class SpeechData(CharacterData):
    """Speech manifests.

    Options have their comments in conf/stage/audio.yaml and talker.yaml.

    Args:
        spec_augment: comes after the conditions; waveform_augment: of the recordings, before all else; None: none.
        hearing: how clips are prepared for an encoder; None: they are left as they are. conditions: need it, since it brings
            voices to a level. cache: folder that keeps computed mels, None: in memory only.
        speakers: as the manifest names them, numbered in this order; None keeps all, numbered in the order of their names
            (numbers by value) in the training manifest. most_speakers: that the model can tell apart; None: any number.
        held_out: speakers whose clips training leaves out; of the manifest that training reads, validation and tests use
            theirs alone, other manifests wholly. None: the splits are those of the manifests.
        test_kinds: of the test splits, keep only clips whose "kind" is one of these, or that have none.
        max_seconds: longer training clips are left out and counted. in_words: so is a clip whose text holds what has no words.
        symbol_frames: mel frames that CTC needs to write a symbol; training clips with fewer than their text needs are
            counted, the loss leaves them out. None: the model is not trained by CTC.
        bucket_augmented: batches are of clips whose lengths are similar after the change of speed (`augment.speed`), not before.
        references: with each clip comes another one of its speaker (of the same split), from which a Talker takes the voice.
    """

    shape: ClassVar[str] = "speech"
    mel: MelSpec
    cache: str | None
    augment: MelAugment | None
    speakers: list[Any] | None
    test_kinds: list[str] | None
    max_seconds: float
    lowercase: bool
    held_out: list[Any] | None = None
    in_words: bool = False
    most_speakers: int | None = None
    hearing: HearingSpec | None = None
    conditions: Conditions | None = None
    spec_augment: SpecAugment | None = None
    waveform_augment: WaveformAugment | None = None
    symbol_frames: int | None = None
    bucket_augmented: bool = False
    references: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.simulate = simulator_for(self.conditions, self.mel, self.hearing)
        self._speakers: dict[str, int] | None = None

    @property
    def holds_out(self) -> bool:
        return self.held_out is not None or super().holds_out

    def spell(self, text: str) -> str:
        return clean_transcript(self.in_form(text), lowercase=self.lowercase and self.text_form is None)

    def load(self, path: Path, split: str | None, *, phase: str) -> SpeechSet:
        what, train = str(path), phase == "train"
        rows = self.read_rows(path, split, shape=self.shape, phase=phase)
        rows = self._without_held_out(rows, path, train=train)
        if phase == "test":
            rows = keep_kinds(rows, self.test_kinds, what=what)
        if self.speakers is not None:
            wanted = list(map(str, self.speakers))
            names = ", ".join(wanted)
            why = f"their speaker is not {names} (datamodule.speakers)"
            kept = column(rows, "speaker", lambda row: speaker_of(row) in wanted, dtype=bool, key=wanted)
            rows = keep_rows(rows, kept, what=what, why=why)
            if not len(rows):
                raise ValueError(f"{path}: no clip of the speakers {names}; set datamodule.speakers")
        rows = self.spelled(rows)
        self.learn_characters(rows, phase=phase)
        if self.in_words:
            rows = normalized_rows(rows, alphabet=self.characters or LETTERS, what=what)
        self.check_characters(rows, what=what)
        samples = SpeechSet(
            rows,
            self._mels(rows, what=what),
            characters=self.characters,
            speakers=self._number(rows, train=train),
            augment=self.augment if train else None,
            simulate=self.simulate if train else None,
            seed=self.seed,
            spec_augment=self.spec_augment if train and self.spec_augment and self.spec_augment.is_on else None,
            references=self.references,
        )
        if train:
            samples.recordings = self._recordings(rows, what=what)
            fits = samples.lengths <= self.max_seconds * self.mel.frame_rate
            why = f"longer than {self.max_seconds:g} s (datamodule.max_seconds)"
            log_skipped(int((~fits).sum()), len(rows), what=what, why=why)
            if not fits.all():
                samples.index = samples.index[fits]
            if self.symbol_frames is not None:
                self._log_too_short(samples, self.symbol_frames, what=what)
        return samples

    def _without_held_out(self, rows: Sequence[Row], path: Path, *, train: bool) -> Sequence[Row]:
        """For training those of the other speakers; of the same manifest, else, those of the held-out ones."""
        trained = [self.train, *(each.train for each in self.sets)]
        own = any(same_file(path, Path(each)) for each in trained if each is not None)
        if self.held_out is None or not (train or own):
            return rows
        names = list(map(str, self.held_out))
        side = "is one of" if train else "is none of"
        why = f"their speaker {side} {', '.join(names)} (datamodule.held_out)"
        theirs = column(rows, "held out", lambda row: speaker_of(row) in names, dtype=bool, key=names)
        kept = keep_rows(rows, theirs != train, what=str(path), why=why)
        if not len(kept):
            known = ", ".join(_speakers_in(rows)[:20])
            rest = "leaves nothing over" if train else "leaves nothing to measure"
            way_out = "" if train else "; val_split=null (of a set: in that set) takes theirs from the rows of training"
            raise ValueError(f"{path}: datamodule.held_out={names} {rest}; its speakers are {known}{way_out}")
        if len(kept) == len(rows):
            log.warning("%s: no clip is of the speakers %s (datamodule.held_out)", path, ", ".join(names))
        return kept

    def _recordings(self, rows: Sequence[Row], *, what: str) -> AugmentedClips | None:
        """Of rows whose waveforms are augmented."""
        options = self.waveform_augment
        if options is None or not options.is_on:
            return None
        rate = self.mel.sample_rate
        augmenter = WaveformAugmenter(options, sample_rate=rate, shortest=self.mel.shortest)
        waveforms = WaveformCache(rows, sample_rate=rate, memory_mb=options.memory_mb, what=what, cache=self.cache)
        return AugmentedClips(waveforms, augmenter, Hearing(self.mel, self.hearing))

    def _mels(self, rows: Sequence[Row], *, what: str) -> MelCache | LazyMels:
        if isinstance(rows, LazyRows):
            return LazyMels(rows, self.mel, self.hearing, what=what)
        return cached_mels(rows, self.mel, cache=self.cache, what=what, hearing=self.hearing)

    def _log_too_short(self, samples: SpeechSet, frames: int, *, what: str) -> None:
        """frames: of a symbol."""
        needed = column(
            samples.rows,
            "CTC frames",
            lambda row: ctc_frames_needed(encode_characters(row["text"], samples.characters)),
            dtype=np.int32,
            key=samples.characters,
        )[samples.index]
        short = int((-(-samples.lengths // frames) < needed).sum())
        why = f"their texts need more than a symbol in {frames / self.mel.frame_rate:g} s (too_short in the metrics)"
        log_skipped(short, len(samples), what=what, why=why)

    def _number(self, rows: Sequence[Row], *, train: bool) -> dict[str, int]:
        """Speaker name -> number, the same for all splits; one that training does not know is number 0. Raises ValueError
        where there are more than the model tells apart."""
        if self._speakers is None:
            names = list(map(str, self.speakers or ()))
            if self.speakers is None:
                own = not self.train_files or (train and not self.sets)
                found = _speakers_in(rows if own else self.train_rows())
                names = sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
            self._speakers = {name: number for number, name in enumerate(names)}
        if self.most_speakers is not None and len(self._speakers) > self.most_speakers:
            shown = ", ".join(list(self._speakers)[:5]) + (", .." if len(self._speakers) > 5 else "")
            raise ValueError(
                f"{self.train or 'data'}: {len(self._speakers)} speakers ({shown}) and a Talker of "
                f"{self.most_speakers}: give backbone.talker.num_speakers={len(self._speakers)}, or say whose clips are "
                "used, speakers=[NAME]"
            )
        return self._speakers

    def lengths(self, samples: SpeechSet) -> np.ndarray:
        if not self.bucket_augmented or samples.augment is None:
            return samples.lengths
        return np.ceil(samples.lengths * (1 + samples.augment.speed)).astype(np.int64)

    def lengths_in(self, samples: SpeechSet) -> Callable[[int], np.ndarray] | None:
        return samples.lengths_in if self.bucket_augmented else None

    def collate(self, samples: Sequence[SpeechSample]) -> SpeechBatch:
        """Pad mels and characters by zeros. Silence around a clip takes the space that its batch has. Other views are the
        second half of the rows; references are a batch of their own."""
        references = [sample.reference for sample in samples if sample.reference is not None]
        others = [replace(sample, mel=sample.other_view) for sample in samples if sample.other_view is not None]
        samples = [*samples, *others]
        mels = [torch.from_numpy(mel) for mel in fit_silence(samples)]
        characters = [torch.from_numpy(sample.characters) for sample in samples]
        return SpeechBatch(
            mel=pad_sequence(mels, batch_first=True),
            mel_lengths=torch.tensor([len(mel) for mel in mels]),
            characters=pad_sequence(characters, batch_first=True),
            character_lengths=torch.tensor([len(each) for each in characters]),
            speakers=torch.tensor([sample.speaker for sample in samples]),
            texts=[sample.text for sample in samples],
            audio=[sample.audio for sample in samples],
            sample_ids=[sample.sample_id for sample in samples],
            views=2 if others else 1,
            references=self.collate(references) if references else None,
        )

    def metadata(self) -> dict[str, Any]:
        return {"mel": self.mel.metadata()} | ({} if self.hearing is None else {"hearing": self.hearing.metadata()})


def _speakers_in(rows: Sequence[Row]) -> list[str]:
    return summary(rows, "speakers", lambda each: sorted({speaker_of(row) for row in each}))


def keep_kinds(rows: Sequence[Row], kinds: Sequence[str] | None, *, what: str) -> Sequence[Row]:
    """The rows whose "kind" is one of `kinds`, or that have none; None: all. Raises ValueError where no row is left."""
    if kinds is None:
        return rows
    names = sorted(kinds)
    why = f"their kind is not {', '.join(names)} (datamodule.test_kinds)"
    fits = column(rows, "kind", lambda row: row.get("kind") in (None, *kinds), dtype=bool, key=names)
    kept = keep_rows(rows, fits, what=what, why=why)
    if not len(kept):
        raise ValueError(f"{what}: no clip of the kinds {names}; set datamodule.test_kinds=null")
    return kept
