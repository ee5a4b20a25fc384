"""Text for the Thinker: packed rows to train on, single documents and questions to measure with.

Legend: B batch, T tokens of a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import DataModule
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row, first_rows, label, log_skipped
from datamodules.packing import bin_pack, pack
from datamodules.text_samples import TextSample, encode_row, floor_of, windows
from datamodules.token_file import LargeDocuments, LargePackedRows, token_file
from datamodules.tokenizer_cache import tokenizer_for
from muomni.batch import TextBatch
from muomni.frontends.tokenizer import Tokenizer
from muomni.nn.masks import SegmentMask
from muomni.special_tokens import BOS, EOS


class PackedRows:
    """Documents `BOS text EOS` one after the other, in a new order each epoch, cut into rows of `length` tokens.

    The order of documents is a function of (seed, epoch), so that cuts fall elsewhere every epoch.
    """

    def __init__(self, documents: list[np.ndarray], *, length: int, seed: int) -> None:
        self.documents, self.length, self.seed = documents, length, seed
        self.total = sum(len(document) for document in documents)
        self._epoch: int | None = None
        self._stream = np.empty(0, dtype=np.int32)

    def __len__(self) -> int:
        return max(1, (self.total - 1) // self.length)

    def _stream_of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, max(epoch, 0), 1]).permutation(len(self.documents))
            self._stream, self._epoch = np.concatenate([self.documents[i] for i in order]), epoch
        return self._stream

    def name(self, index: int) -> str:
        """Rows have no id of their own."""
        return f"row{index}"

    def item(self, index: int, epoch: int) -> TextSample:
        """Row `index` of an epoch; the only row of a text shorter than a row is all of it."""
        stream = self._stream_of(epoch)
        row = stream[index * self.length : (index + 1) * self.length + 1]
        return TextSample(ids=row, prompt=0, document_type="row", floor=math.nan, sample_id=self.name(index))


class Documents:
    """Single documents, or prompts with their answers, as the manifest has them; a longer one than `max_length` in windows.

    Args:
        train: a question that is longer is learnt in windows, too; else it is left out and counted, since it can only be
            answered as a whole. what: the manifest's name in messages.
    """

    def __init__(
        self, rows: Sequence[Row], tokenizer: Tokenizer, *, max_length: int, train: bool = True, what: str = "text"
    ) -> None:
        self.samples: list[TextSample] = []
        long = []
        for row in rows:
            ids, prompt = encode_row(tokenizer, row)
            if "prompt" in row and not train and len(ids) > max_length + 1:
                long.append(f"{row['id']}: Too many tokens: {len(ids) - 1} > {max_length}")
                continue
            self.samples += _samples(row, ids, prompt=prompt, max_length=max_length)
        if long and not self.samples:
            raise ValueError(f"{what}: {long[0]}; no question fits: raise backbone.thinker.max_length")
        why = f"questions of more than {max_length} tokens; the first: {''.join(long[:1])}"
        log_skipped(len(long), len(rows), what=what, why=why)

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        """The document's id."""
        return self.samples[index].sample_id

    def item(self, index: int, epoch: int) -> TextSample:
        return self.samples[index]


def _samples(row: Row, ids: np.ndarray, *, prompt: int, max_length: int) -> list[TextSample]:
    """A document's only sample, or one a window that has a target."""
    type_, name = label(row, "kind", "text"), str(row["id"])
    pieces = windows(ids, max_length=max_length)
    if len(pieces) == 1:
        return [TextSample(ids=ids, prompt=prompt, document_type=type_, floor=floor_of(row), sample_id=name)]
    samples = []
    for number, piece in enumerate(pieces, start=1):
        if prompt < len(piece) - 1:
            shown = f"{name} [{number}/{len(pieces)}]"
            samples.append(TextSample(ids=piece, prompt=prompt, document_type=type_, floor=math.nan, sample_id=shown))
        prompt = max(0, prompt - (len(piece) - 1))
    return samples


def begins(ids: Tensor, words: Sequence[int]) -> Tensor:
    """ids (B, T) -> (B, T) bool, True where the tokens `words` begin."""
    found = torch.zeros_like(ids, dtype=torch.bool)
    last = ids.shape[1] - len(words) + 1
    if last > 0:
        found[:, :last] = torch.stack([ids[:, i : last + i] == word for i, word in enumerate(words)]).all(dim=0)
    return found


def within_answers(ids: Tensor, *, question: Sequence[int], answer: Sequence[int]) -> Tensor:
    """ids (B, T) of texts "question: .. answer: .." -> (B, T) bool, True where the next token is one of an answer or the
    one that ends it. question, answer: the tokens of "question:" and "answer:"."""
    position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    opened = torch.where(begins(ids, answer), position + len(answer) - 1, -1).cummax(dim=1).values
    ended = torch.where(begins(ids, question) | (ids == BOS) | (ids == EOS), position, -1).cummax(dim=1).values
    return (opened > ended) & (opened <= position)


TextSet = PackedRows | Documents | LargePackedRows | LargeDocuments


@dataclass(kw_only=True, eq=False, repr=False)
class TextData(DataModule):
    """Text manifests, or plain text, a sample a line.

    Options have their comments in conf/stage/thinker.yaml.

    Args:
        length: tokens of a training row cut from the stream of all documents; None: whole documents. pack: of these, each
            attends to itself alone; None: a document a row, in batches of similar lengths.
        max_length: most tokens of a single document; a longer one is split into windows, in every split.
        train_share: in a short run, documents that are seen twice teach more than twice as many that are seen once.
        tokenizer: path of a SentencePiece model; None: one of `vocab_size` pieces is trained on the training text
            and kept under `tokenizer_root`.
    """

    length: int | None
    pack: int | None = None
    max_length: int
    answer_weight: float = 1.0
    train_share: float = 1.0
    tokenizer: Any
    vocab_size: int
    tokenizer_root: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer_weight <= 0:
            raise ValueError(f"datamodule.answer_weight={self.answer_weight}: must be above 0")
        if not 0 < self.train_share <= 1:
            raise ValueError(f"datamodule.train_share={self.train_share}: must be above 0 and at most 1")
        root = Path(self.tokenizer_root)
        self.tokenizer_path = tokenizer_for(
            self.tokenizer,
            text=self.train_files,
            vocab_size=self.vocab_size,
            root=root,
            form=self.text_form,
            cache=self.cache,
        )
        self.tokenizer = Tokenizer.load(self.tokenizer_path).with_form(self.text_form)

    def load(self, path: Path, split: str | None, *, phase: str) -> TextSet:
        rows = self.read_rows(path, split, shape="text", phase=phase)
        train = phase == "train"
        if train:
            count = math.ceil(len(rows) * self.train_share)
            why = f"the first are enough for this budget (datamodule.train_share={self.train_share:g})"
            rows = first_rows(rows, count, what=str(path), why=why)
        if isinstance(rows, LazyRows):
            written = token_file(rows, self.tokenizer, what=str(path))
            if train and self.length is not None:
                return LargePackedRows(written, length=self.length, seed=self.seed)
            return LargeDocuments(rows, written, max_length=self.max_length, train=train, what=str(path))
        if not train or self.length is None:
            return Documents(rows, self.tokenizer, max_length=self.max_length, train=train, what=str(path))
        documents = [encode_row(self.tokenizer, row)[0] for row in rows]
        return PackedRows(documents, length=self.length, seed=self.seed)

    def lengths(self, samples: TextSet) -> np.ndarray | None:
        if isinstance(samples, PackedRows | LargePackedRows) or self.pack is not None:
            return None
        if isinstance(samples, LargeDocuments):
            return samples.lengths
        return np.array([len(sample.ids) for sample in samples.samples])

    def metadata(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer_path,
            "tokenizer_fingerprint": self.tokenizer.fingerprint(),
            "decode": self.tokenizer.decode,
        }

    def collate_train(self, samples: Sequence[TextSample]) -> TextBatch:
        """Documents packed into rows, where `pack` says so; answers weighted."""
        if self.pack is None or self.length is not None:
            batch = self.collate(samples)
        else:
            batch = self.collate(samples, bin_pack([len(sample.ids) - 1 for sample in samples], width=self.pack))
        if self.answer_weight != 1:
            question, answer = self.tokenizer.encode_next("question:"), self.tokenizer.encode_next("answer:")
            inside = within_answers(batch.ids, question=question, answer=answer)
            batch.weights = torch.where(inside, self.answer_weight, 1.0)
        return batch

    def collate(self, samples: Sequence[TextSample], rows: list[list[int]] | None = None) -> TextBatch:
        """Pad on the right to the longest. rows: indices of the samples in each row; None: a sample a row."""
        sequences = [sample.sequence() for sample in samples]
        ids, targets, segments = pack(sequences, [[index] for index in range(len(samples))] if rows is None else rows)
        return TextBatch(
            ids=ids,
            targets=targets,
            lengths=(segments > 0).sum(dim=1),
            document_types=[sample.document_type for sample in samples],
            floors=torch.tensor([sample.floor for sample in samples], dtype=torch.float64),
            sample_ids=[sample.sample_id for sample in samples],
            mask=None if rows is None else SegmentMask.with_runs(segments),
        )
