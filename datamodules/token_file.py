"""The documents of a large text manifest as tokens in the data cache, memory-mapped: training rows cut from the stream of all
of them, or single documents and questions.

Legend: N tokens of all documents, D documents.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datamodules.joined_arrays import write_joined
from datamodules.keyed_permutation import KeyedPermutation
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import label, log_skipped
from datamodules.text_samples import TextSample, encode_row, floor_of, windows
from muomni.checkpoints.atomic_write import atomic_folder
from muomni.frontends.tokenizer import Tokenizer

FILES = ("tokens.npy", "ends.npy", "prompts.npy")
PROBE = "The Ünï, A"  # tells one form of texts from another
BLOCK = 256  # documents whose lengths are summed up once an epoch


class TokenFile:
    """Tokens of documents by index. tokens: (N) uint16, or int32 where the vocabulary needs it. ends: (D) where each document
    ends. prompts: (D) how many of a document's targets belong to a question."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open()

    def _open(self) -> None:
        arrays = [np.asarray(np.load(self.folder / name, mmap_mode="r")) for name in FILES]
        self.tokens, self.ends, self.prompts = arrays

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, state: Path) -> None:
        self.folder = state
        self._open()

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> np.ndarray:
        """int32."""
        start = int(self.ends[index - 1]) if index else 0
        return self.tokens[start : self.ends[index]].astype(np.int32)

    def lengths(self, documents: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Tokens of documents, int64."""
        if isinstance(documents, slice):
            return np.diff(self.ends[documents], prepend=0)
        return self.ends[documents] - np.where(documents > 0, self.ends[documents - 1], 0)


def token_file(rows: LazyRows, tokenizer: Tokenizer, *, what: str) -> TokenFile:
    """The rows encoded, once. what: the manifest's name in the progress bar."""
    chosen = b"" if rows.chosen is None else rows.chosen.tobytes()
    key = json.dumps(
        [tokenizer.fingerprint(), tokenizer.encode(PROBE), rows.key, hashlib.blake2b(chosen, digest_size=8).hexdigest()]
    )
    name = f"tokens-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
    folder = rows.cache / "rows" / rows.source.identity / name
    if not (folder / FILES[-1]).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        prompts: list[int] = []

        def encoded() -> Iterator[np.ndarray]:
            for row in tqdm(rows, f"encoding {what} (once)", unit="row", mininterval=1):
                ids, prompt = encode_row(tokenizer, row)
                prompts.append(prompt)
                yield ids

        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32
        with atomic_folder(folder, own=FILES) as temporary:
            np.save(temporary / "ends.npy", write_joined(temporary / "tokens.npy", encoded(), shape=(), dtype=dtype))
            np.save(temporary / "prompts.npy", np.array(prompts, dtype=np.int32))
    return TokenFile(folder)


class LargePackedRows:
    """As `PackedRows`, of documents in a file: their order is computed where a row needs it, and an epoch holds the number of
    tokens of each `BLOCK` documents."""

    def __init__(self, documents: TokenFile, *, length: int, seed: int) -> None:
        self.documents, self.length, self.seed = documents, length, seed
        self.total = len(documents.tokens)
        self._epoch: int | None = None

    def __len__(self) -> int:
        return max(1, (self.total - 1) // self.length)

    def name(self, index: int) -> str:
        """Rows have no id of their own."""
        return f"row{index}"

    def item(self, index: int, epoch: int) -> TextSample:
        """Row `index` of an epoch; the only row of a text shorter than a row is all of it."""
        if epoch != self._epoch:
            self._begin(epoch)
        start, stop = index * self.length, min((index + 1) * self.length + 1, self.total)
        block = int(np.searchsorted(self._ends, start, side="right"))
        first = int(self._ends[block - 1]) if block else 0
        pieces: list[np.ndarray] = []
        skipped = 0
        while first < stop:
            documents = self._order[block * BLOCK : (block + 1) * BLOCK]
            ends = first + np.cumsum(self.documents.lengths(documents))
            begin, end = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
            if not pieces:
                skipped = start - (int(ends[begin - 1]) if begin else first)
            pieces += [self.documents[document] for document in documents[begin : end + 1].tolist()]
            first, block = int(ends[-1]), block + 1
        row = np.concatenate(pieces)[skipped : skipped + stop - start]
        return TextSample(ids=row, prompt=0, document_type="row", floor=math.nan, sample_id=self.name(index))

    def _begin(self, epoch: int) -> None:
        """The order of an epoch, and where each of its blocks ends."""
        count = len(self.documents)
        self._order = KeyedPermutation(count, (self.seed, max(epoch, 0), 1))
        sums = []
        for start in range(0, count, BLOCK * BLOCK):
            lengths = self.documents.lengths(self._order[start : start + BLOCK * BLOCK])
            sums.append(np.add.reduceat(lengths, np.arange(0, len(lengths), BLOCK)))
        self._ends, self._epoch = np.cumsum(np.concatenate(sums)), epoch


class LargeDocuments:
    """As `Documents`, of rows in a file: a longer one than `max_length` in windows. train: a question that is longer is learnt in
    windows, too; else it is left out and counted. what: the manifest's name in messages."""

    def __init__(self, rows: LazyRows, documents: TokenFile, *, max_length: int, train: bool, what: str) -> None:
        self.rows, self.documents, self.max_length = rows, documents, max_length
        targets = documents.lengths() - 1
        counts = np.maximum(1, -(-targets // max_length))
        long = (counts > 1) & (documents.prompts > 0)
        if not train and long.any():
            counts[long] = 0
            why = f"questions of more than {max_length} tokens; the first: {rows[int(long.argmax())]['id']}"
            log_skipped(int(long.sum()), len(rows), what=what, why=why)
            if not counts.any():
                raise ValueError(f"{what}: no question fits {max_length} tokens; raise backbone.thinker.max_length")
        self.ends = None if (counts == 1).all() else np.cumsum(counts)
        """Of each document the number of windows up to its end; None: each document is one."""

    def __len__(self) -> int:
        return len(self.documents) if self.ends is None else int(self.ends[-1])

    def _window(self, index: int) -> tuple[int, int, int]:
        """(document, number of its window from 0, its windows)."""
        if self.ends is None:
            return index, 0, 1
        document = int(np.searchsorted(self.ends, index, side="right"))
        first = int(self.ends[document - 1]) if document else 0
        return document, index - first, int(self.ends[document]) - first

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample, at most: all windows of a document count as its longest."""
        lengths = self.documents.lengths()
        if self.ends is None:
            return lengths.astype(np.int32)
        counts = np.diff(self.ends, prepend=0)
        return np.repeat(-(-(lengths - 1) // np.maximum(1, counts)) + 1, counts).astype(np.int32)

    def name(self, index: int) -> str:
        """The document's id, and which of its windows."""
        document, number, count = self._window(index)
        id_ = str(self.rows[document]["id"])
        return id_ if count == 1 else f"{id_} [{number + 1}/{count}]"

    def item(self, index: int, epoch: int) -> TextSample:
        document, number, count = self._window(index)
        row, ids = self.rows[document], self.documents[document]
        piece = windows(ids, max_length=self.max_length)[number] if count > 1 else ids
        before = (len(ids) - 1) * number // count  # targets of the windows before
        prompt = min(max(0, int(self.documents.prompts[document]) - before), len(piece) - 1)
        return TextSample(
            ids=piece,
            prompt=prompt,
            document_type=label(row, "kind", "text"),
            floor=floor_of(row) if count == 1 else math.nan,
            sample_id=str(row["id"]) if count == 1 else f"{row['id']} [{number + 1}/{count}]",
        )
