"""The datamodules that the benchmark reads with: those of the stages for rows with media, and of text the rows themselves, which
shows what reading costs without tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.base import DataModule
from datamodules.image_text import ImageTextData
from datamodules.manifests import RowSet
from datamodules.sft import SftData
from datamodules.speech import SpeechData
from muomni.frontends.hearing import HearingSpec
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer

PIECES = 300
MEL = MelSpec(sample_rate=16000, hop=160, n_fft=512, win=400, bins=80, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
HEARING = HearingSpec(level=0.0, margin=0.1, pause=0.5, threshold=3.0, edge=-5.0)
IMAGE = ImageSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class RowSamples(RowSet):
    def item(self, index: int, epoch: int) -> dict[str, Any]:
        return self.rows[index]


class RowData(DataModule):
    """Rows of shape text."""

    def load(self, path: Path, split: str | None, *, phase: str) -> RowSamples:
        return RowSamples(self.read_rows(path, split, shape="text", phase=phase))

    def collate(self, samples: Sequence[Any]) -> list[Any]:
        return list(samples)


def train_tokenizer(root: Path) -> None:
    """A small tokenizer of the words in the rows."""
    from benchmarks.data.prepare import WORDS

    Tokenizer.train([b" ".join(WORDS).decode(), "what is it?"] * 20, PIECES, root / "tokenizer.model", exact=False)


def data_of(shape: str, path: Path, *, batch: int, workers: int, cache: Path, root: Path) -> DataModule:
    """The datamodule of a shape. root: folder of the tokenizer."""
    common: dict[str, Any] = {
        "train": str(path), "val": None, "test": {}, "batch_size": batch, "eval_batch_size": batch, "seed": 0,
        "num_workers": workers, "cache": str(cache),
    }  # fmt: skip
    if shape == "text":
        return RowData(**common)
    if shape == "speech":
        return SpeechData(
            **common, mel=MEL, hearing=HEARING, augment=None, speakers=None, test_kinds=None, max_seconds=30.0,
            lowercase=True, symbol_frames=4,
        )  # fmt: skip
    tokenizer = str(root / "tokenizer.model")
    if shape == "image_text":
        return ImageTextData(
            **common, image=IMAGE, tokenizer=tokenizer, vocab_size=Tokenizer.load(tokenizer).vocab_size,
            tokenizer_root=str(root), max_length=96, memory_mb=64, probe_pictures=None,
        )  # fmt: skip
    return SftData(
        **common, tokenizer=tokenizer, image=IMAGE, mel=MEL, hearing=HEARING, image_tokens="grid", image_grid=2,
        audio_downsample=4, audio_stack=2, max_length=256, max_audio_tokens=128, shares=None, questions_per_row=1,
        isolated_share=0.0, curriculum=None, memory_mb=64, pack=512,
    )  # fmt: skip
