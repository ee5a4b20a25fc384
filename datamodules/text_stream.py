"""One long text as a stream of tokens: rows of the model's context, cut anywhere, and measured over all of a held-out end.

The set-up of character models (Karpathy's char-rnn and nanoGPT): no documents, no special tokens, the last part of the file
held out. An epoch's rows begin at an offset that is a function of (seed, epoch), so that cuts fall elsewhere in each.

Legend: N tokens of a text, T of a row.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.held_out import same_file
from datamodules.text import TextData, TextSample
from muomni.frontends.text_form import form_named
from muomni.frontends.tokenizer import Tokenizer

WORD_START = 1  # piece that a tokenizer which puts a space before any text begins with


class StreamRows:
    """ids (N) -> rows of T inputs and as many targets, each target once. An epoch below 0 has no offset, and what is left at the
    end as a shorter row."""

    def __init__(self, ids: np.ndarray, *, length: int, seed: int, train: bool) -> None:
        self.ids, self.length, self.seed, self.train = ids, length, seed, train

    def __len__(self) -> int:
        targets = len(self.ids) - 1
        return max(1, targets // self.length - 1) if self.train else math.ceil(targets / self.length)

    def name(self, index: int) -> str:
        return f"row{index}"

    def item(self, index: int, epoch: int) -> TextSample:
        """Row `index` of an epoch."""
        offset = 0
        if epoch >= 0:
            offset = int(np.random.default_rng([self.seed, epoch, 1]).integers(self.length))
        start = offset + index * self.length
        ids = self.ids[start : start + self.length + 1]
        return TextSample(ids=ids, prompt=0, document_type="row", floor=math.nan, sample_id=self.name(index))


@dataclass(kw_only=True, eq=False, repr=False)
class TextStream(TextData):
    """Plain text files, each one text.

    Args:
        length: T. held_out: share of a file, its end, that is kept from training; validation and tests that read the training
            file read this end, those of other files all of them.
        pieces: "characters": where no tokenizer is given, one with a piece for each character of the training file (held-out
            end included) is made. "bpe": one of `vocab_size` pieces.
    """

    held_out: float
    pieces: Literal["characters", "bpe"]

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"datamodule.held_out={self.held_out}: a share of the text, at least 0 and below 1")
        if self.length is None or self.length < 1:
            raise ValueError(f"datamodule.length={self.length}: the tokens of a row")
        if self.pieces not in ("characters", "bpe"):
            raise ValueError(f"datamodule.pieces={self.pieces}: available are characters, bpe")
        if self.tokenizer is None and self.pieces == "characters" and self.train is not None:
            text = form_named(self.text_form)(read_text(Path(self.train)))
            self.tokenizer = str(character_tokenizer(text, Path(self.tokenizer_root)))
        super().__post_init__()

    @property
    def holds_out(self) -> bool:
        return self.held_out > 0

    def load(self, path: Path, split: str | None, *, phase: str) -> StreamRows:  # type: ignore[override]
        text = self.in_form(read_text(path))
        shared = self.train is None or same_file(path, Path(self.train))
        first_held_out = int(len(text) * (1 - self.held_out))
        if phase == "train":
            text = text[:first_held_out]
        elif shared and self.held_out:
            text = text[first_held_out:]
        ids = np.array(self.tokenizer.encode(text)[WORD_START * self.tokenizer.puts_space :], dtype=np.int32)
        assert self.length is not None
        if len(ids) <= (2 * self.length if phase == "train" else 1):
            raise ValueError(f"{path}: {len(ids)} tokens are too few for rows of {self.length} (datamodule.length)")
        return StreamRows(ids, length=self.length, seed=self.seed, train=phase == "train")

    def lengths(self, samples: StreamRows) -> None:  # type: ignore[override]
        """Rows have one length."""
        return


def read_text(path: Path) -> str:
    """A UTF-8 file as it is, line ends included. Raises FileNotFoundError and ValueError, naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such text")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 at byte {error.start + 1}") from error
    if not text.strip():
        raise ValueError(f"{path}: no text")
    return text


def character_tokenizer(text: str, root: Path) -> Path:
    """A tokenizer with a piece for each character of a text, kept in `root` under a name made of these characters."""
    characters = "".join(sorted(set(text)))
    path = root / f"characters-{hashlib.sha256(characters.encode()).hexdigest()[:12]}" / "tokenizer.model"
    if not path.is_file():
        Tokenizer.of_characters(characters, path)
    return path
